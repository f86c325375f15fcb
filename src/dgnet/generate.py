"""Pictures from a trained generator: grids, swaps, interpolations, and whole folders of generated people.

Photos and pictures are uint8 [N, H, W, 3] tensors on the CPU, at the size that the network was trained on; the network
stays where it is and in the modes it is in. The same weights, photos and seed give the same pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import dgnet
from dgnet import console, figures
from dgnet.data.images import ImageStore, decode, resize
from dgnet.data.transforms import denormalise, normalise
from dgnet.errors import UserError
from dgnet.files import replacing
from dgnet.models.dgnet import DGNet
from dgnet.models.layers import frozen

BATCH = 32
PROVENANCE = "provenance.json"


def read(paths: Sequence[Path], height: int, width: int) -> Tensor:
    """Image files of any size as photos uint8 [N, height, width, 3]. Raises UserError naming a file that is none."""
    return torch.from_numpy(np.stack([resize(decode(Path(path)), height, width) for path in paths]))


def grid(net: DGNet, structures: Tensor, appearances: Tensor, batch: int = BATCH) -> Tensor:
    """Everyone in everyone's clothes: [S, H, W, 3] and [A, H, W, 3] -> [A, S, H, W, 3].

    Row j wears appearance j, column i has structure i.
    """
    s, f = structure_codes(net, structures, batch), appearance_codes(net, appearances, batch)
    return torch.stack([paint(net, s, worn.expand(len(s), -1), batch) for worn in f])


def swap(net: DGNet, a: Tensor, b: Tensor, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Pairs exchange their clothes: a [N, H, W, 3] in those of b [N, H, W, 3], and b in those of a."""
    s, f = structure_codes(net, torch.cat([a, b]), batch), appearance_codes(net, torch.cat([b, a]), batch)
    pictures = paint(net, s, f, batch)
    return pictures[: len(a)], pictures[len(a) :]


def interpolate_appearance(
    net: DGNet, structures: Tensor, start: Tensor, end: Tensor, steps: int = 11, batch: int = BATCH
) -> Tensor:
    """From the clothes of `start` to those of `end` at one structure: each [N, H, W, 3] -> [N, steps, H, W, 3].

    The codes are mixed linearly; the first and the last step are `start` and `end` themselves.
    """
    s = structure_codes(net, structures, batch)
    first, last = appearance_codes(net, start, batch), appearance_codes(net, end, batch)
    return torch.stack([
        paint(net, still.expand(steps, -1, -1, -1), torch.lerp(one, other, _along(steps, one)), batch)
        for still, one, other in zip(s, first, last, strict=True)
    ])  # fmt: skip


def interpolate_structure(
    net: DGNet, appearances: Tensor, start: Tensor, end: Tensor, steps: int = 11, batch: int = BATCH
) -> Tensor:
    """From the pose of `start` to that of `end` in one appearance: each [N, H, W, 3] -> [N, steps, H, W, 3]."""
    f = appearance_codes(net, appearances, batch)
    first, last = structure_codes(net, start, batch), structure_codes(net, end, batch)
    return torch.stack([
        paint(net, torch.lerp(one, other, _along(steps, one)), worn.expand(steps, -1), batch)
        for worn, one, other in zip(f, first, last, strict=True)
    ])  # fmt: skip


def folder(
    net: DGNet,
    paths: Sequence[Path],
    out: Path,
    *,
    height: int,
    width: int,
    seed: int = 0,
    weights: str = "",
    suffix: Literal[".png", ".jpg"] = ".png",
    batch: int = BATCH,
) -> None:
    """For each photo one picture: its clothes on the structure of another photo of the set, drawn at random.

    This is the set that the published FID is taken of. `out/provenance.json` says for every file where appearance and
    structure come from, and holds the seed and `weights` (a hash, or whatever else identifies them). An interrupted
    folder is continued when the call is the same; any other folder that is not empty is refused with a UserError.
    """
    paths = [Path(path) for path in paths]
    if len(paths) < 2:
        raise UserError(f"{len(paths)} images to generate from: a set of at least 2 is needed")
    structure_of = np.random.default_rng(seed).integers(len(paths) - 1, size=len(paths))
    structure_of += structure_of >= np.arange(len(paths))  # any photo but one's own
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{number:06d}_{stem}" for number, stem in enumerate(stems)]
    files = [out / f"{stem}{suffix}" for stem in stems]
    sources = {
        file.name: {"appearance": str(path), "structure": str(paths[other])}
        for file, path, other in zip(files, paths, structure_of, strict=True)
    }
    settings = {"dgnet": dgnet.__version__, "weights": weights, "seed": seed, "height": height, "width": width}
    _claim(out, json.dumps(settings | {"images": sources}, indent=1) + "\n")

    photos = ImageStore(paths, height, width, on_demand=True)
    with console.progress(speed_unit="images") as bar:
        task = bar.add_task("generating", total=len(files), note="")
        for indices in np.split(np.arange(len(files)), range(batch, len(files), batch)):
            if not all(files[index].exists() for index in indices):
                s = structure_codes(net, photos[structure_of[indices]], batch)
                pictures = paint(net, s, appearance_codes(net, photos[indices], batch), batch).numpy()
                for index, picture in zip(indices, pictures, strict=True):
                    figures.save(files[index], picture)
            bar.advance(task, len(indices))


def structure_codes(net: DGNet, photos: Tensor, batch: int = BATCH) -> Tensor:
    """s of photos [N, H, W, 3]: [N, C, H / 4, W / 4], where the network is. The noise on edges is always the same."""
    generator = torch.Generator().manual_seed(0)
    with frozen(net), torch.inference_mode():
        parts = (normalise(part.to(_device(net))) for part in torch.split(photos, batch))
        return torch.cat([net.structure(net.structure_of(x, generator)) for x in parts])


def appearance_codes(net: DGNet, photos: Tensor, batch: int = BATCH) -> Tensor:
    """f of photos [N, H, W, 3]: [N, code], where the network is."""
    with frozen(net), torch.inference_mode():
        parts = (normalise(part.to(_device(net))) for part in torch.split(photos, batch))
        return torch.cat([net.appearance.pool(x)[0] for x in parts])


def paint(net: DGNet, structure: Tensor, appearance: Tensor, batch: int = BATCH) -> Tensor:
    """Pictures of codes [N, C, H / 4, W / 4] and [N, code]: uint8 [N, H, W, 3] on the CPU."""
    with frozen(net), torch.inference_mode():
        pairs = zip(torch.split(structure, batch), torch.split(appearance, batch), strict=True)
        drawn = [(denormalise(net.decode(s, f)) * 255).round().byte().permute(0, 2, 3, 1).cpu() for s, f in pairs]
        return torch.cat(drawn).contiguous()


def _along(steps: int, code: Tensor) -> Tensor:
    """0 to 1 in `steps` steps, in the shape that mixes codes like `code`."""
    if steps < 2:
        raise UserError(f"{steps} steps of interpolation: at least 2, the two ends, would be right")
    return torch.linspace(0, 1, steps, device=code.device).view(-1, *[1] * code.ndim)


def _claim(out: Path, provenance: str) -> None:
    """Make `out` the folder of these pictures; raises UserError where it holds anything else."""
    note = out / PROVENANCE
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not note.is_file() or note.read_text() != provenance:
            raise UserError(f"{out}: not empty, and not begun with these images, weights and seed; give a new folder")
        for leftover in out.glob(".*.part"):
            leftover.unlink()
        return
    with replacing(note) as part:
        part.write_text(provenance)


def _device(net: DGNet) -> torch.device:
    return next(net.parameters()).device
