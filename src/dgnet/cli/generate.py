"""`dgnet generate`: pictures from a trained generator."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from dgnet.cli.common import Out, Weights, refuse, written
from dgnet.errors import UserError

app = tyro.extras.SubcommandApp()


@app.command
def grid(
    weights: Weights, out: Out, structures: tuple[Path, ...], appearances: tuple[Path, ...],
    scale: int = 1, border: int = 2, labels: bool = False, device: str = "auto",
) -> int:  # fmt: skip
    """Everyone in everyone's clothes: columns are structures, rows are appearances.

    Args:
        weights: a run folder or model.safetensors
        out: picture to write (.png or .jpg); without an ending, a folder of single pictures
        structures: images whose pose and place are kept, one column each
        appearances: images whose clothes are worn, one row each
        scale: how many times as large as the network paints, so that it can be seen
        border: white pixels between pictures, before they are enlarged
        labels: write the names of the files beside rows and columns
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.images import sheets
    from dgnet.images.inputs import Photos
    from dgnet.model import load

    if out.suffix:
        sheets.require_format(out)
    else:
        refuse(f"{out}, a folder of single pictures,", {"--labels": labels, "--border": border != 2})
    model = load(weights, device)
    top, left = (Photos(paths, *model.size).all() for paths in (structures, appearances))
    cells = model.grid(top, left, as_tensor=True)
    if not out.suffix:
        for row, worn in zip(cells.numpy(), _names(appearances), strict=True):
            for picture, kept in zip(row, _names(structures), strict=True):
                sheets.save(out / f"{kept}_in_{worn}.png", sheets.sheet(picture[None, None], scale=scale))
        return written(out)
    sheet = sheets.sheet(cells.numpy(), top.numpy(), left.numpy(), border, scale)
    if labels:
        height, width = model.size
        across = [scale * (width + 4 * border + k * (width + border)) for k in range(len(structures))]
        down = [scale * (height + 4 * border + k * (height + border)) for k in range(len(appearances))]
        sheet = sheets.labelled(sheet, [p.stem for p in structures], [p.stem for p in appearances], across, down)
    sheets.save(out, sheet)
    return written(out)


def _names(photos: Sequence[Path]) -> list[str]:
    """What pictures of these are called: the photos' names, with their numbers before them where two are alike."""
    stems = [photo.stem for photo in photos]
    alike = len({stem.casefold() for stem in stems}) < len(stems)
    return [f"{number:03d}_{stem}" for number, stem in enumerate(stems)] if alike else stems


@app.command
def swap(
    weights: Weights, out: Out, images: tuple[Path, ...], scale: int = 1, border: int = 2,
    device: str = "auto",
) -> int:  # fmt: skip
    """Pairs of people exchange their clothes: two photos, then both generated, a row a pair.

    Args:
        weights: a run folder or model.safetensors
        out: picture to write (.png or .jpg)
        images: photos, two for each pair
        scale: how many times as large as the network paints, so that it can be seen
        border: white pixels between pictures, before they are enlarged
        device: auto, cpu, cuda or cuda:N
    """
    import torch

    from dgnet.images import sheets
    from dgnet.images.inputs import Photos
    from dgnet.model import load

    if len(images) < 2 or len(images) % 2:
        raise UserError(f"--images: {len(images)} given; two for each pair are needed")
    sheets.require_format(out)
    model = load(weights, device)
    a, b = (Photos(some, *model.size).all() for some in (images[0::2], images[1::2]))
    exchanged = model.swap(torch.cat([a, b]), torch.cat([b, a]), as_tensor=True).chunk(2)
    rows = torch.stack([a, b, *exchanged], dim=1)
    sheets.save(out, sheets.sheet(rows.numpy(), gutter=border, scale=scale))
    return written(out)


@app.command
def interpolate(
    weights: Weights, out: Out, start: Path, end: Path, of: Literal["appearance", "structure"],
    fixed: Path | None = None, steps: int = 11, path: Literal["linear", "spherical"] = "linear", scale: int = 1,
    device: str = "auto",
) -> int:  # fmt: skip
    """From one photo to another in a few steps: a strip (.png, .jpg) or an animation (.gif, .mp4).

    Args:
        weights: a run folder or model.safetensors
        out: what to write; its ending decides. An .mp4 needs ffmpeg, or pip install 'dgnet[video]'
        start: photo at the first step
        end: photo at the last step
        of: which code moves; the other stays that of `fixed`
        fixed: photo that gives the code that stays; by default `start`
        steps: pictures from start to end
        path: mix codes along a straight line, or along the arc between their directions
        scale: how many times as large as the network paints, so that it can be seen
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.images import animation, sheets
    from dgnet.model import load

    moves = out.suffix.lower() in animation.WRITERS
    if moves:
        animation.writer_of(out)  # what cannot be written is told before the work
    else:
        sheets.require_format(out)
    model = load(weights, device)
    strip = model.interpolate(start, end, of, fixed=fixed, steps=steps, path=path, as_tensor=True).numpy()
    if moves:
        animation.animate(out, strip, scale=scale)
    else:
        sheets.save(out, sheets.sheet(strip, scale=scale))
    return written(out)


@app.command
def folder(
    weights: Weights, out: Out, images: Path, seed: int = 0,
    suffix: Literal[".png", ".jpg"] = ".png", on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:  # fmt: skip
    """For every image of a folder, its clothes on a random other structure: the set that FID is taken of.

    Args:
        weights: a run folder or model.safetensors
        out: folder to write to, with provenance.json
        images: folder of photos
        seed: decides the structures
        suffix: format of the pictures
        on_unreadable: stop where photos cannot be read, before the first picture; or name them and pass them over
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.model import load

    load(weights, device).generate_folder(images, out, seed=seed, suffix=suffix, on_unreadable=on_unreadable)
    return written(out)


@app.command
def dataset(
    weights: Weights, out: Out, data: Path | None = None, layout: str = "auto",
    per_identity: int = 10, wear: Literal["own", "others"] = "own", with_real: bool = False, shard: str | None = None,
    provenance: Literal["csv", "parquet"] = "csv", seed: int = 0, on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:  # fmt: skip
    """A whole new data set: everyone of a training set in other poses, or in others' clothes; in Market-1501 layout.

    The same command continues what was interrupted. Under torchrun each process paints one shard.

    Args:
        weights: a run folder or model.safetensors
        out: folder to write to, with provenance.csv, or .parquet
        data: the data set to start from; by default the one that the model was trained on
        layout: how it is laid out
        per_identity: pictures of each person
        wear: their own clothes, on structures of others; or others' clothes, on their own structures, labels kept
        with_real: put copies of the real images beside them, query and gallery too: a set to train and test with
        shard: paint one part alone, such as 3/8; all parts may run at once
        provenance: the kind of table that says where pictures come from; parquet needs pip install 'dgnet[parquet]'
        seed: decides who wears what where
        on_unreadable: stop where photos cannot be read, before the first picture; or name them and pass them over
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet import console
    from dgnet.model import load

    part, device = _part(shard, device)
    painted = load(weights, device).generate_dataset(
        out, data, layout, per_identity=per_identity, wear=wear, with_real=with_real, shard=part,
        provenance=provenance, seed=seed, on_unreadable=on_unreadable,
    )  # fmt: skip
    which = "" if part == (1, 1) else f" of shard {part[0]}/{part[1]}"
    console.stdout.print(f"{painted} pictures{which} painted")
    return written(out)


def _part(shard: str | None, device: str) -> tuple[tuple[int, int], str]:
    """Which shard of how many this process paints, and where: as it is told, or as torchrun numbers its processes."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if shard is None and processes == 1:
        return (1, 1), device
    if shard is None:
        gpu = os.environ.get("LOCAL_RANK", "0")
        where = f"cuda:{gpu}" if device in ("auto", "cuda") and _several_gpus() else device
        return (int(os.environ.get("RANK", "0")) + 1, processes), where
    if processes > 1:
        raise UserError(f"--shard {shard}: torchrun gives each of its {processes} processes a shard; leave it out")
    numbers = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise UserError(f"--shard {shard}: write it as 3/8, the third of eight")
    return (int(numbers[1]), int(numbers[2])), device


def _several_gpus() -> bool:
    import torch

    return torch.cuda.device_count() > 1
