"""How good generated people are: realism, diversity, identity, and whether they are copies. One value per figure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dgnet import console
from dgnet.datasets.tables import read_table
from dgnet.drawn.dataset import FACTORS, load_factors, swap_truth
from dgnet.errors import UserError
from dgnet.files import write_json
from dgnet.generate import edit
from dgnet.generate.dataset import PROVENANCE
from dgnet.generate.distances import Eye, features, frechet_distance, kernel_distance
from dgnet.generate.expansion import ABOUT
from dgnet.generate.quality import diversity, floats, psnr, ssim
from dgnet.images import sheets
from dgnet.retrieval.exact import best
from dgnet.retrieval.scores import unit

Embed = Callable[[Sequence[Path]], Tensor]
"""Features [N, D] of photos, rows of length 1."""

PAIRS = 1000  # of pictures of one person, whose SSIM is the diversity
SAMPLES = 10  # on the sheet
_SIZE = (128, 64)  # at which pictures are compared pixel by pixel
_MARKET = re.compile(r"(-1|\d+)_c?\d+")


@dataclass(frozen=True)
class Source:
    """Where a generated picture comes from, as its folder's provenance says."""

    appearance: Path
    structure: Path
    identity: int | None = None
    """Of the appearance, where the provenance says so."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    note: str = ""
    """What it is measured with, or over."""


@dataclass(frozen=True)
class Scores:
    """What `score` measured, and what it could not."""

    real: str
    generated: str
    pictures: int
    figures: list[Figure]
    missing: dict[str, str] = field(default_factory=dict)
    """Figures that could not be measured, and what they lack."""

    def table(self) -> Any:
        rows = [[figure.name, f"{figure.value:.4g}", figure.note] for figure in self.figures]
        rows += [[name, "-", reason] for name, reason in self.missing.items()]
        return console.table(f"{self.pictures} pictures of {self.generated} against {self.real}", ["", "", ""], rows)

    def save(self, path: Path) -> None:
        """Write everything as JSON, all or nothing."""
        about = {
            "real": self.real,
            "generated": self.generated,
            "pictures": self.pictures,
            "figures": {figure.name: {"value": figure.value, "note": figure.note} for figure in self.figures},
            "missing": self.missing,
        }
        write_json(path, about)


def score(
    real: Sequence[Path],
    generated: Sequence[Path],
    eye: Eye,
    *,
    names: tuple[str, str] = ("real", "generated"),
    identities: Mapping[Path, int] | None = None,
    reference: Sequence[Path] = (),
    recognisers: Mapping[str, Embed] | None = None,
    sheet: Path | None = None,
    on_unreadable: Literal["error", "skip"] = "error",
    seed: int = 0,
) -> Scores:
    """Generated pictures against real ones, which should be all training images.

    Args:
        real: photos that the generator was trained on.
        generated: pictures, of which `provenance.json`, `.csv` or `.parquet` beside them tells the sources.
        eye: the network of the distances.
        names: what the two are called.
        identities: who is on the real photos; by default as their names say, in Market-1501's way.
        reference: other real photos (the gallery): their distance from `real` is what a perfect generator would reach.
        recognisers: by name, what embeds photos: does it recognise whose clothes are worn?
        sheet: a picture to write, of some generated people, their sources and the photos most like them.
        on_unreadable: stop at photos that cannot be read, or name them and go on without them.
        seed: of pairs, subsets and samples.

    Raises:
        UserError: fewer than two pictures on a side, photos that cannot be read, packages that are missing.
    """
    sources = sources_of(generated)
    seen_real, real = features(eye, real, "real photos", on_unreadable)
    seen, generated = features(eye, generated, "generated pictures", on_unreadable)
    few = f"; biased, of fewer pictures than the {seen.shape[1]} features" if len(generated) < seen.shape[1] else ""
    mean, deviation = kernel_distance(seen_real, seen, seed)
    figures = [
        Figure(eye.frechet, frechet_distance(seen_real, seen), f"features of {eye.name}{few}"),
        Figure(eye.kernel, mean, f"+- {deviation:.2g}, features of {eye.name}"),
    ]
    if reference:
        seen_reference, reference = features(eye, reference, "reference photos", on_unreadable)
        note = f"of {len(reference)} other real photos: what to compare with"
        figures.append(Figure(f"{eye.frechet} of real photos", frechet_distance(seen_real, seen_reference), note))
    copied, nearest = copies(seen_real, seen)
    figures.append(Figure("copied", copied, "share nearer to a training photo than that is to any other"))

    missing: dict[str, str] = {}
    known = identities if identities is not None else named_identities(real)
    worn = _identities_worn(generated, sources, known)
    _diversity(figures, missing, generated, real, worn, known, seed)
    for name, embed in (recognisers or {}).items():
        _recognised(figures, missing, name, embed, real, generated, known, worn, sources)
    _fidelity(figures, missing, generated, sources)
    if sheet is not None:
        _sheet(sheet, generated, sources, [real[k] for k in nearest.tolist()], seed)
    return Scores(*names, len(generated), figures, missing)


def sources_of(generated: Sequence[Path]) -> dict[Path, Source]:
    """The sources of the pictures whose folders, or those above, hold a provenance; {} where none does."""
    found: dict[Path, Source] = {}
    for folder in {parent for path in generated for parent in list(path.parents)[:2]}:
        for file, source in _provenance(folder).items():
            found[folder / file] = source
    return {path: found[path] for path in generated if path in found}


def _provenance(folder: Path) -> dict[str, Source]:
    try:
        if (folder / PROVENANCE).is_file():
            images = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))["images"]
            return {file: Source(Path(of["appearance"]), Path(of["structure"])) for file, of in images.items()}
        made: dict[str, Source] = {}
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8")) if (folder / ABOUT).is_file() else {}
        labelled_by_clothes = about.get("wear", "own") == "own"
        for table in sorted([*folder.glob("provenance*.csv"), *folder.glob("provenance*.parquet")]):
            columns = read_table(table)
            rows = zip(*(columns[name] for name in ("file", "appearance", "structure", "identity")), strict=True)
            for file, worn, kept, person in rows:
                made[file] = Source(Path(worn), Path(kept), int(person) if labelled_by_clothes else None)
        return made
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{folder}: its provenance is damaged ({type(error).__name__}: {error}); remove it to go on"
        ) from error


def named_identities(paths: Sequence[Path]) -> dict[Path, int]:
    """Who is on photos that are named in Market-1501's way, 0002_c1s1_000451_03.jpg; the others are left out."""
    matches = ((path, _MARKET.match(path.name)) for path in paths)
    return {path: int(match[1]) for path, match in matches if match}


def copies(real: Tensor, generated: Tensor) -> tuple[float, Tensor]:
    """The share of generated pictures that are nearer to a real one than that is to any other, and the nearest [N].

    1 - authenticity of Alaa et al., ICML 2022, with the cosine of features [R, D] and [N, D]. A literal copy counts
    always, an interpolation between photos hardly.
    """
    centre = real.mean(0)  # without it, features of a ReLU all point one way
    real, generated = unit(real - centre, 1), unit(generated - centre, 1)
    likeness, place = best(generated, real, 1)
    used, which = torch.unique(place[:, 0], return_inverse=True)
    neighbours, rows = best(real[used], real, 2)
    another = torch.where(rows[:, 0] == used, neighbours[:, 1], neighbours[:, 0])
    return float((likeness[:, 0] > another[which]).double().mean()), place[:, 0]


def recognised(
    generated: Tensor, worn: Sequence[int], real: Tensor, identities: Sequence[int]
) -> tuple[float, list[int]]:
    """The share of pictures [N, D] that are most like the mean photo [R, D] of whose clothes they wear; and who is."""
    people, labels = torch.unique(torch.tensor(list(identities)), return_inverse=True)
    means = torch.zeros(len(people), real.shape[1]).index_add_(0, labels, real)
    found = people[(generated @ unit(means, 1).T).argmax(1)]
    return float((found == torch.tensor(list(worn))).double().mean()), found.tolist()


def _identities_worn(
    generated: Sequence[Path], sources: Mapping[Path, Source], known: Mapping[Path, int]
) -> dict[Path, int]:
    """Whose clothes each picture wears: as its source says, or its own name."""
    worn = named_identities(generated)
    for path, source in sources.items():
        identity = known.get(source.appearance) if source.identity is None else source.identity
        if identity is not None:
            worn[path] = identity
    return {path: worn[path] for path in generated if path in worn}


def _diversity(
    figures: list[Figure],
    missing: dict[str, str],
    generated: Sequence[Path],
    real: Sequence[Path],
    worn: Mapping[Path, int],
    known: Mapping[Path, int],
    seed: int,
) -> None:
    for name, paths, people in (("SSIM within identities", generated, worn), ("the same of real photos", real, known)):
        labelled = [path for path in paths if people.get(path, 0) > 0]
        _, counts = np.unique([people[path] for path in labelled], return_counts=True)
        if not (counts > 1).any():
            missing[name] = "no two pictures are known to be of one person: neither provenance nor names say so"
            continue
        value = _sampled_diversity(labelled, [people[path] for path in labelled], seed)
        figures.append(Figure(name, value, f"of {PAIRS} pairs; lower is more diverse"))


def _sampled_diversity(paths: Sequence[Path], people: Sequence[int], seed: int) -> float:
    """`diversity` of pictures in files: those of at most 4 * PAIRS drawn people's pictures are read."""
    if len(paths) > 4 * PAIRS:
        of: dict[int, list[int]] = {}
        for place, person in enumerate(people):
            of.setdefault(person, []).append(place)
        order = np.random.default_rng(seed).permutation(sorted(of))
        chosen: list[int] = []
        for person in order.tolist():
            if len(chosen) < 4 * PAIRS:
                chosen += of[person]
        paths, people = [paths[k] for k in chosen], [people[k] for k in chosen]
    pictures = floats(edit.read(paths, *_SIZE))
    return diversity(pictures, torch.tensor(list(people)), pairs=PAIRS, seed=seed)


def _recognised(
    figures: list[Figure],
    missing: dict[str, str],
    name: str,
    embed: Embed,
    real: Sequence[Path],
    generated: Sequence[Path],
    known: Mapping[Path, int],
    worn: Mapping[Path, int],
    sources: Mapping[Path, Source],
) -> None:
    title = f"recognised by {name}"
    photos = [path for path in real if known.get(path, 0) > 0]
    people = {known[path] for path in photos}
    asked = [path for path in generated if worn.get(path) in people]
    if not asked:
        missing[title] = "not known whose clothes the pictures wear, or none of these people is among the real photos"
        return
    found_in, found_of = embed(photos), embed(asked)
    share, found = recognised(found_of, [worn[path] for path in asked], found_in, [known[path] for path in photos])
    figures.append(Figure(title, share, f"{len(asked)} pictures among {len(people)} people: the appearance's owner"))
    owners = [known.get(sources[path].structure) if path in sources else None for path in asked]
    if any(owner is not None for owner in owners):
        taken = sum(owner == who for owner, who in zip(owners, found, strict=True)) / len(asked)
        figures.append(Figure(f"{title} as the other", taken, "the structure's owner"))


def _fidelity(
    figures: list[Figure], missing: dict[str, str], generated: Sequence[Path], sources: Mapping[Path, Source]
) -> None:
    """Swaps of drawn people have a right answer."""
    title = "PSNR, SSIM against the truth"
    drawn = {source.structure.parent.parent for source in sources.values()}
    folder = next(iter(drawn)) if len(drawn) == 1 else None
    if folder is None or not (folder / FACTORS).is_file():
        missing[title] = "a truth is known of drawn people alone (dgnet data synthesize)"
        return
    factors = load_factors(folder)
    size = (factors.recipe["height"], factors.recipe["width"])
    asked = [path for path in generated if path in sources]
    quality = []
    for start in range(0, len(asked), 256):
        part = asked[start : start + 256]
        drawings = [swap_truth(factors, sources[path].structure, sources[path].appearance) for path in part]
        truth, made = floats(torch.from_numpy(np.stack(drawings))), floats(edit.read(part, *size))
        quality.append(torch.stack([psnr(made, truth).double(), ssim(made, truth)]))
    means = torch.cat(quality, 1).mean(1).tolist()
    for name, value in zip(("PSNR", "SSIM"), means, strict=True):
        figures.append(Figure(f"{name} against the truth", value, f"{len(asked)} swaps of drawn people"))


def _sheet(
    path: Path, generated: Sequence[Path], sources: Mapping[Path, Source], nearest: Sequence[Path], seed: int
) -> None:
    """Columns: a generated picture, the photos that it is made of, and the training photo most like it."""
    count = min(SAMPLES, len(generated))
    chosen = np.sort(np.random.default_rng(seed).choice(len(generated), count, replace=False)).tolist()
    rows = {"generated": [generated[k] for k in chosen]}
    made_of = [sources.get(generated[k]) for k in chosen]
    there = [source for source in made_of if source and source.appearance.exists() and source.structure.exists()]
    if len(there) == count:
        rows |= {"appearance": [s.appearance for s in there], "structure": [s.structure for s in there]}
    rows["most alike"] = [nearest[k] for k in chosen]
    cells = np.stack([edit.read(files, *_SIZE).numpy() for files in rows.values()])
    sheets.save(path, sheets.sheet(cells))
