"""`dgnet generate`: pictures from a trained generator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

from dgnet.cli.common import generator, load_joint, written
from dgnet.errors import UserError

app = tyro.extras.SubcommandApp()


@app.command
def grid(
    weights: Positional[Path], out: Positional[Path], structures: tuple[Path, ...], appearances: tuple[Path, ...],
    device: str = "auto",
) -> int:  # fmt: skip
    """Everyone in everyone's clothes: columns are structures, rows are appearances.

    Args:
        weights: model.safetensors
        out: picture to write (.png or .jpg)
        structures: images whose pose and place are kept, one column each
        appearances: images whose clothes are worn, one row each
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.generate import edit
    from dgnet.images import sheets

    net, size = generator(weights, device)
    s, a = edit.read(structures, *size), edit.read(appearances, *size)
    sheets.save(out, sheets.sheet(edit.grid(net, s, a).numpy(), s.numpy(), a.numpy()))
    return written(out)


@app.command
def swap(weights: Positional[Path], out: Positional[Path], images: tuple[Path, ...], device: str = "auto") -> int:
    """Pairs of people exchange their clothes: two photos, then both generated, a row a pair.

    Args:
        weights: model.safetensors
        out: picture to write (.png or .jpg)
        images: photos, two for each pair
        device: auto, cpu, cuda or cuda:N
    """
    import torch

    from dgnet.generate import edit
    from dgnet.images import sheets

    if len(images) < 2 or len(images) % 2:
        raise UserError(f"--images: {len(images)} given; two for each pair are needed")
    net, size = generator(weights, device)
    photos = edit.read(images, *size)
    a, b = photos[0::2], photos[1::2]
    sheets.save(out, sheets.sheet(torch.stack([a, b, *edit.swap(net, a, b)], dim=1).numpy()))
    return written(out)


@app.command
def interpolate(
    weights: Positional[Path], out: Positional[Path], start: Path, end: Path, of: Literal["appearance", "structure"],
    fixed: Path | None = None, steps: int = 11, device: str = "auto",
) -> int:  # fmt: skip
    """From one photo to another in a few steps: a strip (.png, .jpg) or an animation (.gif).

    Args:
        weights: model.safetensors
        out: what to write; its ending decides
        start: photo at the first step
        end: photo at the last step
        of: which code moves; the other stays that of `fixed`
        fixed: photo that gives the code that stays; by default `start`
        steps: pictures from start to end
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.generate import edit
    from dgnet.images import sheets

    net, size = generator(weights, device)
    still, first, last = (edit.read([path], *size) for path in (fixed or start, start, end))
    between = edit.interpolate_appearance if of == "appearance" else edit.interpolate_structure
    strip = between(net, still, first, last, steps).numpy()
    if out.suffix.lower() == ".gif":
        sheets.animate(out, strip)
    else:
        sheets.save(out, sheets.sheet(strip))
    return written(out)


@app.command
def folder(
    weights: Positional[Path], out: Positional[Path], images: Path, seed: int = 0,
    suffix: Literal[".png", ".jpg"] = ".png", device: str = "auto",
) -> int:  # fmt: skip
    """For every image of a folder, its clothes on a random other structure: the set that FID is taken of.

    Args:
        weights: model.safetensors
        out: folder to write to, with provenance.json
        images: folder of photos
        seed: decides the structures
        suffix: format of the pictures
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.datasets.folders import images_in
    from dgnet.generate.dataset import folder as fill

    if not images.is_dir():
        raise UserError(f"{images}: no such folder of images")
    loaded = load_joint(weights, device)
    data = loaded.config.data
    fill(
        loaded.net, images_in(images), out, height=data.height, width=data.width, seed=seed, weights=loaded.hash,
        suffix=suffix,
    )  # fmt: skip
    return written(out)
