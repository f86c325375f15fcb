# In an empty folder, with `python` a Python that has the code of commit 09336ff (version 0.1.0) and torch 2.13.0 for the CPU.
small="--config tiny --device cpu data.root=people model.appearance.backbone=resnet10 model.appearance.backbone_width=1
  model.appearance.head_width=4 model.structure.width=1 model.decoder.mlp_width=4 model.discriminator.width=1
  model.discriminator.scales=1 teacher.backbone=resnet10 teacher.backbone_width=1 teacher.head_width=4"
python -m dgnet data synthesize people --identities 6 --test-identities 3 --cameras 2 --images-per-camera 2 --height 32 --width 16
python -m dgnet train teacher teacher $small
python -m dgnet train joint joint $small --teacher teacher/teacher.safetensors
python -m dgnet evaluate joint/model.safetensors --json joint/evaluation.json
python - <<'END'
import json
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from dgnet import generate, weights
from dgnet.evaluate.features import extract

torch.set_num_threads(1)
joint, teacher = weights.load_joint("joint/model.safetensors").net, weights.load_teacher("teacher/teacher.safetensors").net
size = (32, 16)
for name, path in zip(("anna", "carl"), sorted(Path("people/query").glob("*.jpg"))[::3]):
    Image.open(path).convert("RGB").save(f"{name}.png")
photos = generate.read([Path("anna.png"), Path("carl.png")], *size)
gave = {
    "joint": extract(joint, photos).tolist(),
    "teacher": extract(teacher, photos).tolist(),
}
Path("features.json").write_text(json.dumps(gave, indent=1) + "\n")
picture, _ = generate.swap(joint, photos[:1], photos[1:])
Image.fromarray(picture[0].numpy()).save("swap.png")
END
