"""`dgnet score`: how good generated people are, and drawn people as a test for any generator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from dgnet import console
from dgnet.cli.common import refuse, written
from dgnet.errors import UserError


def score(
    folders: Positional[tuple[Path, ...]] = (),
    truth: Path | None = None,
    generator: Path | None = None,
    teacher: Path | None = None,
    independent: Path | None = None,
    inception: str | None = None,
    layout: str = "auto",
    json: Path | None = None,
    sheet: Path | None = None,
    on_unreadable: Literal["error", "skip"] = "error",
    pairs: int = 240,
    height: int = 128,
    width: int = 64,
    seed: int = 0,
    device: str = "auto",
) -> int:
    """Score generated people: REAL GENERATED; or swaps of drawn people against the truth: --truth FOLDER [PICTURES].

    REAL are the training photos (a folder of photos, or a data set, whose gallery is then the reference), GENERATED
    what `dgnet generate folder` or `dgnet generate dataset` made, or any other pictures. --truth FOLDER alone writes
    pairs of photos with their right answers; with PICTURES, a folder with one picture for each pair is scored.

    Args:
        folders: REAL and GENERATED; with --truth, PICTURES or nothing
        truth: folder of drawn pairs with their truths, to be written or to be scored with
        generator: with --truth: a model.safetensors that first paints PICTURES
        teacher: a model or teacher that says whether it recognises whose clothes are worn
        independent: another one, which the generator was not trained with
        inception: weights of FID's Inception (file, URL#sha256=HASH or hub:user/name/file); without: FD-lite2, no FID
        layout: how a data set REAL is laid out
        json: write everything to this file, too
        sheet: picture to write: samples, their sources, and the photos most like them; by default beside --json
        on_unreadable: stop where photos cannot be read, or name them and pass them over
        pairs: with --truth alone: how many to draw
        height: of drawn pairs
        width: of drawn pairs
        seed: decides what is drawn
        device: auto, cpu, cuda or cuda:N
    """
    if truth is not None:
        if len(folders) > 1:
            raise UserError(f"--truth: one folder of pictures is scored; {len(folders)} are given")
        refuse("--truth", {"--inception": inception, "--sheet": sheet})
        if not folders:
            if generator is not None:
                raise UserError("--generator: say where its pictures go, as --truth FOLDER PICTURES")
            from dgnet.generate.fidelity import write_benchmark

            write_benchmark(truth, count=pairs, seed=seed, height=height, width=width)
            return written(truth)
        return _against_truth(
            truth, folders[0], generator, {"teacher": teacher, "independent": independent}, json, device
        )
    if len(folders) != 2:
        raise UserError("score: give two folders, REAL and GENERATED, or --truth FOLDER")
    if generator is not None:
        raise UserError("--generator: goes with --truth only; dgnet generate folder makes pictures of a data set")

    from dgnet.datasets.folders import existing_folder, images_among, images_in
    from dgnet.datasets.read import read_dataset
    from dgnet.device import device_named
    from dgnet.generate import distances
    from dgnet.generate.score import score as measure
    from dgnet.images.sheets import require_format
    from dgnet.model import load

    if sheet is None and json is not None:
        sheet = json.with_suffix(".png")
    if sheet is not None:
        require_format(sheet)
    where = device_named(device)
    real, generated = folders
    if images_in(existing_folder(real)) and layout == "auto":
        photos, identities, reference = images_among([real]), None, []
    else:
        dataset = read_dataset(real, layout, need=("train",))
        photos, reference = dataset.train.paths, dataset.gallery.paths
        identities = dict(zip(photos, dataset.train.identities.tolist(), strict=True))
    made = images_among([generated])
    models = {name: load(file, where) for name, file in (("teacher", teacher), ("independent", independent)) if file}
    eye = distances.inception(inception, where) if inception else distances.lite2(where)
    found = measure(
        photos, made, eye, names=(str(real), str(generated)), identities=identities, reference=reference,
        recognisers={name: model.embed for name, model in models.items()}, sheet=sheet, on_unreadable=on_unreadable,
        seed=seed,
    )  # fmt: skip
    console.stdout.print(found.table())
    if json is not None:
        found.save(json)
        written(json)
    return 0 if sheet is None else written(sheet)


def _against_truth(
    truth: Path, pictures: Path, generator: Path | None, files: dict[str, Path | None], json: Path | None, device: str
) -> int:
    from torch import Tensor

    from dgnet.generate.fidelity import fidelity, paint_benchmark, read_benchmark
    from dgnet.model import load

    benchmark = read_benchmark(truth)
    models = {name: load(file, device) for name, file in files.items() if file is not None}
    if generator is not None:
        model = load(generator, device)

        def swap(structure: Tensor, appearance: Tensor) -> Tensor:
            return model.swap(list(structure), list(appearance), as_tensor=True)

        paint_benchmark(benchmark, swap, pictures)
    found = fidelity(benchmark, pictures, {name: model.embed for name, model in models.items()})
    console.stdout.print(found.table())
    if json is not None:
        found.save(json)
        return written(json)
    return 0
