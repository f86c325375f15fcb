"""A line of a run's log, as both trainings write it and the report reads it."""

from typing import NotRequired, TypedDict


class LogLine(TypedDict):
    """One JSON object of `log.jsonl`: every value was measured in that iteration."""

    iteration: int
    """From 1."""
    total: float
    """What was minimised: the sum of the terms times their weights, or a baseline's only term."""
    seconds: float
    """Per iteration, mean since the start or resumption."""
    terms: NotRequired[dict[str, float]]
    """Every term before its weight; of a baseline, where there are several."""
    weights: NotRequired[dict[str, float]]
    """Of each term."""
    discriminator: NotRequired[float]
    """Joint training: D's own loss."""
    penalty: NotRequired[float]
    """Joint training: D's gradient penalty before its weight."""
    epoch: NotRequired[int]
    """A baseline's: from 1."""
    accuracy: NotRequired[float]
    """A baseline's: share of the batch that was recognised."""
