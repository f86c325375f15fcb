"""A line of a run's log, as both trainings write it and the report reads it."""

from typing import NotRequired, TypedDict


class LogLine(TypedDict):
    """One JSON object of `log.jsonl`: every value was measured in that iteration."""

    iteration: int
    """From 1."""
    total: float
    """What was minimised: the sum of the terms times their weights, or the baseline's cross-entropy."""
    seconds: float
    """Per iteration, mean since the start or resumption."""
    terms: NotRequired[dict[str, float]]
    """Joint training: every term before its weight."""
    weights: NotRequired[dict[str, float]]
    """Joint training: of each term."""
    discriminator: NotRequired[float]
    """Joint training: D's own loss."""
    penalty: NotRequired[float]
    """Joint training: D's gradient penalty before its weight."""
    epoch: NotRequired[int]
    """A baseline's: from 1."""
    accuracy: NotRequired[float]
    """A baseline's: share of the batch that was recognised."""
