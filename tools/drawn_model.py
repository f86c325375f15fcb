"""Makes the model that comes with dgnet, `dgnet.load("drawn")`, and measures it on people of a seed that it never saw.

    python tools/drawn_model.py work            about an hour on one core that multiplies in bfloat16
    python tools/drawn_model.py work --ship     also puts the model into the package

Finished stages in the folder are kept, an interrupted one is continued.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import dgnet
from dgnet import config as configuration
from dgnet.datasets.read import read_dataset
from dgnet.device import device_named
from dgnet.drawn.dataset import synthesize
from dgnet.generate.quality import swap_quality
from dgnet.models.dgnet import DGNet
from dgnet.train.baseline import train_baseline
from dgnet.train.joint import train_joint

PACKAGE = Path(dgnet.__file__).parent / "shipped" / "drawn.safetensors"
FALSE_ACCEPTS = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything is made")
    parser.add_argument("--ship", action="store_true", help=f"copy the model to {PACKAGE}")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    model = made(folder)

    model.calibrate(drawn(folder / "others", 98), far=FALSE_ACCEPTS)
    file = model.save(folder / "drawn.safetensors")
    figures = measured(dgnet.load(file), folder)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    if arguments.ship:
        PACKAGE.parent.mkdir(exist_ok=True)
        shutil.copy(file, PACKAGE)


def made(folder: Path) -> dgnet.Model:
    """The trained model, in half precision, as it is shipped."""
    config, device = configuration.load("drawn"), device_named("auto")
    height, width = config.data.height, config.data.width
    # Many cameras, since what a generator cannot see in gray it must know of scenes in general.
    synthesize(
        folder / "people", identities=250, test_identities=10, cameras=40, images_per_camera=1, seed=11, height=height,
        width=width,
    )  # fmt: skip
    people = read_dataset(folder / "people")
    teacher, joint = folder / "teacher" / "teacher.safetensors", folder / "joint" / "model.safetensors"
    if not teacher.exists():
        begun = (teacher.parent / "config.yaml").exists()
        assert train_baseline(config, people, teacher.parent, device, resume=begun), "stopped"
    if not joint.exists():
        begun = (joint.parent / "config.yaml").exists()
        assert train_joint(config, people, joint.parent, [teacher], device, resume=begun), "stopped"
    model = dgnet.load(joint)
    if isinstance(model.net, DGNet) and model.net.typical is None:
        model.add_structures(people.train.paths[::8])
    return dgnet.load(model.save(folder / "half.safetensors", half=True))


def drawn(folder: Path, seed: int) -> Path:
    """People and cameras that no training saw."""
    synthesize(folder, identities=102, test_identities=100, cameras=6, images_per_camera=2, seed=seed)
    return folder


def measured(model: dgnet.Model, folder: Path) -> dict[str, object]:
    """Ranking of 100 unknown people by 6 unknown cameras, and swaps of theirs beside the truth."""
    fresh = drawn(folder / "fresh", 99)
    result = model.evaluate(fresh)[0]
    assert isinstance(model.net, DGNet)
    with_factors = synthesize(fresh, identities=102, test_identities=100, cameras=6, images_per_camera=2, seed=99)
    swaps, _ = swap_quality(model.net, read_dataset(fresh).query, with_factors)
    return {"ranking": result.figures(), "swaps": swaps}


if __name__ == "__main__":
    main()
