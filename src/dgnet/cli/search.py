"""`dgnet embed`, `search`, `same`, `calibrate`: photos compared, without anything prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from dgnet import console
from dgnet.cli.common import Photo, Weights, tell_matches, written
from dgnet.errors import UserError


def embed(
    weights: Weights,
    images: Positional[tuple[Path, ...]],
    out: Path,
    on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:
    """Features of photos, of length 1, beside their names: the dot product of two is their likeness.

    Under torchrun (torchrun --nproc-per-node N -m dgnet embed ...) the processes share the photos.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        images: photos, or folders with photos at any depth
        out: file to write: .npz (arrays names, features), .parquet (name, feature) or .csv (name, f0, f1, ...)
        on_unreadable: stop at photos that cannot be read, or name them and go on without them
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet import processes
    from dgnet.datasets.folders import images_among
    from dgnet.device import device_named
    from dgnet.gallery.embedding import embedded_photos
    from dgnet.model import load
    from dgnet.retrieval.named import save_named, writer_of

    place = processes.start(device_named(device), sharing=True)
    if not images:
        raise UserError("embed: give photos, or folders of photos")
    writer_of(out)  # an ending that cannot be written is told before the work
    paths = images_among(images)
    model = load(weights, place)
    read, features = embedded_photos(model, paths, on_unreadable, shared=processes.several())
    if processes.rank():
        return 0
    save_named(out, list(map(str, read)), features)
    console.stdout.print(f"{len(read)} images, {model.dimensions} dimensions")
    return written(out)


def search(
    weights: Weights,
    query: Photo,
    where: Positional[tuple[Path, ...]],
    also: tuple[Path, ...] = (),
    top: int = 10,
    json: Path | None = None,
    sheet: Path | None = None,
    on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:
    """The photos in a folder that are most like a photo. For a folder that is asked often: dgnet gallery.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        query: photo of the person who is looked for
        where: folders to look in, at any depth, or photos
        also: more photos of the same person; their features are averaged
        top: how many to show
        json: write the matches to this file, too
        sheet: picture to write (.png or .jpg): the query, and the matches in their order
        on_unreadable: stop at photos that cannot be read, or name them and go on without them
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.images.sheets import require_format
    from dgnet.model import load

    if not where:
        raise UserError("search: say where to look: a folder, or photos")
    if sheet is not None:
        require_format(sheet)
    model = load(weights, device)
    matches = model.search([query, *also], where, top, on_unreadable=on_unreadable)
    return tell_matches(matches, [query, *also], model, json, sheet)


def same(weights: Weights, a: Photo, b: Photo, device: str = "auto") -> int:
    """Whether two photos show one person: yes, no or unsure, with their likeness.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        a: a photo
        b: another one
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.model import load

    console.stdout.print(str(load(weights, device).same(a, b)))
    return 0


def calibrate(
    weights: Annotated[Positional[str], arg(metavar="MODEL")],
    data: Path | None = None,
    layout: str = "auto",
    holdout: float | None = None,
    far: float = 1e-3,
    out: Path | None = None,
    draws: int = 1000,
    seed: int = 0,
    cache: Path | None = None,
    on_unreadable: Literal["error", "skip"] = "error",
    device: str = "auto",
) -> int:
    """Find the threshold from which on two photos are taken for one person's, and keep it in the model's file.

    `dgnet same`, `search` and `gallery search` then say yes, no or unsure; `dgnet evaluate --verification` says what
    the threshold is worth on another data set.

    Args:
        weights: a run folder, model.safetensors or teacher.safetensors
        data: the data set's folder, best of people whom the model was not trained on; by default that of the model
        layout: how it is laid out: auto, market1501, msmt17, ... (docs/datasets.md)
        holdout: share of its people held out as query and gallery, where it has none; without --data as trained
        far: false-accept rate: the share of pairs of different people that may be taken for one
        out: file to write the model with its threshold to; by default its own
        draws: of the bootstrap that gives the threshold's interval
        seed: of the bootstrap
        cache: folder for decoded photos; by default they are kept in memory
        on_unreadable: stop at photos that cannot be read, or name them and go on without them
        device: auto, cpu, cuda or cuda:N
    """
    from dgnet.evaluate.protocol import Reading
    from dgnet.files import expanded
    from dgnet.model import SHIPPED, load, weights_file

    if out is None:
        if weights in SHIPPED or not expanded(weights).exists():
            raise UserError(f"{weights}: not a file of yours; --out FILE.safetensors says where to keep the threshold")
        out = weights_file(weights)
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: weights are written as .safetensors")
    model = load(weights, device)
    found = model.calibrate(
        data, layout, far=far, holdout=holdout, reading=Reading(True, cache, on_unreadable), draws=draws, seed=seed
    )
    interval = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
    console.stdout.print(
        f"threshold {interval} for {found.far:g} false accepts on {found.data} ({found.impostor_pairs} pairs of "
        f"different people); {100 * found.tar:.2f} % of {found.genuine_pairs} pairs of one person are accepted"
    )
    return written(model.save(out))
