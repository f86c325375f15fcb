"""Photos embedded per second: dgnet, the same network in ONNX Runtime, and a plain loop, side by side.

All read the same JPEG files of 128 x 64 pixels (the size of Market-1501) and make the same features of image and
mirror image, which is checked. dgnet is what `dgnet embed` does; ONNX Runtime has the exported file, in batches that
Pillow reads one photo after the other; the plain loop reads, scales and embeds one photo after the other in PyTorch, as
first scripts do. They take turns within one run, so that a busy machine slows all; ratios are medians over turns.

    python benchmarks/embed.py --json benchmarks/results/embed.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hardware import about
from PIL import Image
from torch import Tensor

import dgnet
from dgnet import config as configuration
from dgnet import console
from dgnet.device import keep_freed
from dgnet.drawn.dataset import synthesize
from dgnet.export.session import Exported
from dgnet.gallery.embedding import embedded_photos
from dgnet.model import Model
from dgnet.models.dgnet import DGNet
from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD
from dgnet.weights.files import save_model

ALIKE = 1e-3  # by how much features of the same photo may differ: scaling of Pillow is not rounded as ours


def scaled(path: Path, height: int, width: int) -> Tensor:
    """One photo as Pillow reads it: [3, H, W], normalised."""
    image = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    return (x - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


def plain_loop(model: Model, paths: list[Path]) -> Tensor:
    """One photo after the other."""
    features = []
    with torch.inference_mode():
        for path in paths:
            x = scaled(path, *model.size)[None].to(model.device)
            feature = model.net.embed(x) + model.net.embed(x.flip(3))
            halves = feature.unflatten(1, (2, -1))
            halves = halves / halves.norm(dim=2, keepdim=True)
            halves = halves * torch.tensor([1.0, model.config.evaluate.alphas[0] ** 0.5], device=x.device)[:, None]
            feature = halves.flatten(1)
            features.append((feature / feature.norm()).cpu())
    return torch.cat(features)


def onnx_runtime(session: Exported, paths: list[Path], batch: int) -> Tensor:
    """The exported file, in batches."""
    size = session.about.height, session.about.width
    made = [
        session.embed(torch.stack([scaled(path, *size) for path in paths[start : start + batch]]))
        for start in range(0, len(paths), batch)
    ]
    features = torch.cat(made)
    return features / features.norm(dim=1, keepdim=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="market1501", help="a preset or a YAML file (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=128, help="at least (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="of dgnet and the plain loop (default: %(default)s)")
    parser.add_argument("--note", default="", help="about the machine, for the JSON file")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    keep_freed()
    torch.set_num_threads(options.threads)

    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        synthesize(here / "people", identities=-(-options.photos // 8) + 2, test_identities=2, height=128, width=64)
        paths = sorted((here / "people" / "bounding_box_train").glob("*.jpg"))[: options.photos]
        config = configuration.load(options.preset, ["model.appearance.weights=scratch"])
        torch.manual_seed(0)
        save_model(here / "model.safetensors", DGNet(config, 751), config, "joint", [*range(751)])
        model = dgnet.load(here / "model.safetensors", options.device)
        model.export(here / "model.onnx", check=tuple(paths[:8]))
        session = Exported(here / "model.onnx")
        ways: dict[str, Callable[[], Tensor]] = {
            "dgnet": lambda: embedded_photos(model, paths)[1],
            "ONNX Runtime": lambda: onnx_runtime(session, paths, model.batch),
            "plain loop": lambda: plain_loop(model, paths),
        }
        ours = ways["dgnet"]()  # the first use warms what is warmed
        for name, way in ways.items():
            worst = float((way() - ours).abs().max())
            assert worst < ALIKE, f"{name}: features differ by {worst}"
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(options.turns):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                rates[name].append(len(paths) / (time.perf_counter() - began))
            console.notice(f"turn {turn + 1}: " + ", ".join(f"{n} {r[-1]:.1f}/s" for n, r in rates.items()))

    ratios = {name: [a / b for a, b in zip(rates["dgnet"], each, strict=True)] for name, each in rates.items()}
    figures = {
        name: {
            "photos_per_second": statistics.median(rates[name]), "turns": rates[name],
            "dgnet_is_times_as_fast": statistics.median(ratios[name]),
            "smallest_to_largest": [min(ratios[name]), max(ratios[name])],
        }
        for name in ways
    }  # fmt: skip
    rows = [
        (name, f"{row['photos_per_second']:.1f}", f"{row['dgnet_is_times_as_fast']:.2f}")
        for name, row in figures.items()
    ]
    title = f"{len(paths)} photos embedded with {options.preset} on {options.device}"
    console.stdout.print(console.table(title, ["", "photos per second", "dgnet is times as fast"], rows))
    if options.json:
        whole = {"ways": figures, "preset": options.preset, "photos": len(paths), "threads": options.threads,
                 "note": options.note, **about(options.device)}  # fmt: skip
        options.json.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
