"""What a search finds: as Python values, as lines for a terminal, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dgnet.files import write_json
from dgnet.retrieval.decision import HOW_TO, Answer, Threshold
from dgnet.retrieval.exact import best


@dataclass(frozen=True)
class Match:
    """One place of a ranking."""

    place: int
    """From 1."""
    name: str
    """The photo's path; of a tracklet, that of its first photo."""
    score: float
    """Likeness to the query: the dot product of their features, at most 1."""
    same: Answer | None = None
    """Whether it is the query's person, by the model's threshold; None without one."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of it: id, camera, identity, time, box, ..."""


def most_alike(
    query: Tensor, features: Tensor, photos: Sequence[Path], top: int, threshold: Threshold | None
) -> list[Match]:
    """The photos [G] whose features [G, D] are most like a feature [1, D], best first; equal scores in their order."""
    score, place = best(query, features, top)
    ranked = zip(score[0].tolist(), place[0].tolist(), strict=True)
    return [
        Match(rank, str(photos[at]), value, None if threshold is None else threshold.decide(value))
        for rank, (value, at) in enumerate(ranked, start=1)
    ]


def lines(matches: Sequence[Match], threshold: Threshold | None) -> list[str]:
    """A head, then a line per match, the name last and whole: for people, and for whatever reads the output."""
    told = sorted({key for match in matches for key, value in match.about.items() if _shown(key, value)})
    head = ["place", "score", *(["same person"] if threshold else []), *told, "name"]
    cells = [
        [
            str(match.place),
            f"{match.score:.3f}",
            *([str(match.same)] if threshold else []),
            *(_cell(match.about.get(key)) for key in told),
            match.name,
        ]
        for match in matches
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    made = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in [head, *cells]]
    if threshold is None:
        return [*made, f"no decision, since the model has no threshold: {HOW_TO}"]
    return [*made, f"threshold {threshold.value:.3f}, for {threshold.far:g} false accepts on {threshold.data}"]


def save_json(path: Path, matches: Sequence[Match], **about: Any) -> None:
    """Write `about` and the matches, in their order, to a JSON file, all or nothing."""
    write_json(path, about | {"matches": [asdict(match) for match in matches]}, ascii=False)


def _shown(key: str, value: object) -> bool:
    return value not in (None, "", {}) and key in ("id", "camera", "identity", "time", "box", "photos")


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(f"{part:g}" for part in value)
    return "" if value is None else str(value)
