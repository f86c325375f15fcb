"""A decision, not only a ranking: the same person, by a threshold that belongs to one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from dgnet.errors import UserError

Answer = Literal["yes", "no", "unsure"]
HOW_TO = "dgnet calibrate MODEL --data FOLDER finds one, and keeps it with the model"


@dataclass(frozen=True)
class Threshold:
    """Where the likeness of two photos begins to mean one person: the score that is exceeded by a share `far` of the
    pairs of different people in `data`.

    From `high` on, the upper end of its 95 % bootstrap interval, the answer is yes; below `low` it is no; in between
    the people of `data` were too few to tell.
    """

    value: float
    low: float
    high: float
    far: float
    """Share of the pairs of different people that it takes for one: the false-accept rate that was asked for."""
    tar: float
    """Share of the pairs of one person that it accepts, in `data`: the true-accept rate."""
    model: str
    """Fingerprint of the model whose likenesses it judges."""
    data: str
    """The data set that it was found on."""
    genuine_pairs: int
    impostor_pairs: int

    def decide(self, score: float) -> Answer:
        """Whether a likeness of two photos means one person.

        Examples:
            >>> threshold = Threshold(0.7, 0.68, 0.72, 1e-3, 0.9, "", "people", 100, 100000)
            >>> [threshold.decide(score) for score in (0.67, 0.70, 0.72)]
            ['no', 'unsure', 'yes']
        """
        return "yes" if score >= self.high else "no" if score < self.low else "unsure"

    def to_dict(self) -> dict[str, Any]:
        """As it is kept with a model."""
        return asdict(self)


def from_dict(read: object) -> Threshold:
    """What `Threshold.to_dict` gave. Raises UserError for anything else."""
    kinds = {"data": str, "model": str, "genuine_pairs": int, "impostor_pairs": int}
    wanted = {field.name: kinds.get(field.name, float) for field in fields(Threshold)}
    if not isinstance(read, Mapping) or read.keys() != wanted.keys():
        raise UserError(f"a threshold has {', '.join(wanted)}")
    if wrong := [key for key, kind in wanted.items() if type(read[key]) is not kind]:
        raise UserError(f"of a threshold, {wrong[0]} is {read[wrong[0]]!r}, not of type {wanted[wrong[0]].__name__}")
    made = Threshold(**read)
    if not (-1.01 <= made.low <= made.value <= made.high <= 1.01 and 0 < made.far < 1 and 0 <= made.tar <= 1):
        raise UserError("a threshold's low <= value <= high must lie in [-1, 1], its rates in [0, 1]")
    return made


@dataclass(frozen=True)
class Same:
    """Whether two photos show one person."""

    answer: Answer | None
    """`yes`, `no` or `unsure`; None for a model without a threshold."""
    score: float
    """Their likeness: the dot product of their features, at most 1."""
    threshold: Threshold | None

    def __str__(self) -> str:
        if self.threshold is None:
            return f"score {self.score:.3f}; no decision, since the model has no threshold: {HOW_TO}"
        t = self.threshold
        return f"{self.answer}: score {self.score:.3f}, threshold {t.value:.3f} [{t.low:.3f}, {t.high:.3f}]"


def judged(score: float, threshold: Threshold | None) -> Same:
    """A likeness, with the decision where there is a threshold."""
    return Same(None if threshold is None else threshold.decide(score), score, threshold)
