"""Makes the model that comes with dgnet, `dgnet.load("drawn")`, and measures it on people of a seed that it never saw.

    python tools/drawn_model.py work            about an hour on one core that multiplies in bfloat16
    python tools/drawn_model.py work --ship     also puts the model into the package

Finished stages in the folder are kept, an interrupted one is continued.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import dgnet
from dgnet import config as configuration
from dgnet.datasets.read import read_dataset
from dgnet.device import device_named
from dgnet.drawn.dataset import load_factors, synthesize
from dgnet.generate.quality import swap_quality
from dgnet.models.dgnet import DGNet
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import train_joint

PACKAGE = Path(dgnet.__file__).parent / "shipped" / "drawn.safetensors"
FALSE_ACCEPTS = 1e-3
OTHERS = {"identities": 102, "test_identities": 100, "cameras": 6, "images_per_camera": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything is made")
    parser.add_argument("--ship", action="store_true", help=f"copy the model to {PACKAGE}")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)  # so that the model's file tells of `people`, and of no folder of this machine

    model = made()
    model.calibrate(drawn("others", 98), far=FALSE_ACCEPTS)
    result = model.evaluate(drawn("fresh", 99))[0]
    file = model.save("drawn.safetensors", half=True, results=[result], licence="apache-2.0")
    found = swaps(dgnet.load(file))
    figures = {"ranking": result.figures(), "swaps": found}
    card = file.with_name(f"{file.name}.md")
    card.write_text(told(card.read_text(encoding="utf-8"), found), encoding="utf-8")
    Path("figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    if arguments.ship:
        PACKAGE.parent.mkdir(exist_ok=True)
        for part in (file, card):
            shutil.copy(part, PACKAGE.with_name(part.name))


def made() -> dgnet.Model:
    """The trained model, in half precision, as it is shipped."""
    config, device = configuration.load("drawn"), device_named("auto")
    height, width = config.data.height, config.data.width
    # Many cameras, since what a generator cannot see in gray it must know of scenes in general.
    synthesize(
        "people", identities=250, test_identities=10, cameras=40, images_per_camera=1, seed=11, height=height,
        width=width,
    )  # fmt: skip
    people = read_dataset(Path("people"))
    teacher, joint = Path("teacher/teacher.safetensors"), Path("joint/model.safetensors")
    if not teacher.exists():
        begun = (teacher.parent / "config.yaml").exists()
        assert train_baseline(config, people, teacher.parent, device, resume=begun), "stopped"
    if not joint.exists():
        begun = (joint.parent / "config.yaml").exists()
        assert train_joint(config, people, joint.parent, [teacher], device, resume=begun), "stopped"
    Path("half").mkdir(exist_ok=True)
    model = dgnet.load(joint)
    config = model.config
    model.config = replace(config, data=replace(config.data, root="people"), train=replace(config.train, teachers=()))
    if isinstance(model.net, DGNet) and model.net.typical is None:
        model.add_structures(people.train.paths[::8])
    return dgnet.load(model.save("half/drawn.safetensors", half=True))


def drawn(folder: str, seed: int) -> Path:
    """People and cameras that no training saw."""
    synthesize(folder, **OTHERS, seed=seed)
    return Path(folder)


def swaps(model: dgnet.Model) -> Mapping[str, Mapping[str, float]]:
    """How near the unknown people's swaps come to the truth, beside two ways to do nothing."""
    assert isinstance(model.net, DGNet)
    return swap_quality(model.net, read_dataset(Path("fresh")).query, load_factors("fresh"))[0]


def told(card: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    """The card with what no other model's says: whom it knows, and how good its swaps are."""
    rows = "".join(f"| {name} | {row['PSNR']:.2f} | {row['SSIM']:.3f} |\n" for name, row in figures.items())
    own = (
        "**It knows drawn people only**, those that dgnet's own program draws, and means nothing on photos. "
        "tools/drawn_model.py makes it; docs/results.md says how long that took.\n\n"
        "## Swaps\n\nOf unknown people by unknown cameras, against the pictures that they should be:\n\n"
        f"| | PSNR (dB) | SSIM |\n| --- | ---: | ---: |\n{rows}\n"
    )
    return card.replace("## Data\n", f"{own}## Data\n", 1)


if __name__ == "__main__":
    main()
