"""What the step asks of a device, counted without one, is no more than what is recorded; and it never waits for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import LATE, Counts, counted, step_on

RECORDED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "counts.json").read_text())


@pytest.mark.parametrize("row", RECORDED["counts"], ids=lambda row: row["what"])
def test_an_iteration_asks_no_more_of_the_device_than_recorded(row: dict[str, Any]) -> None:
    found = counted(row["iteration"], RECORDED["half_batch"], row["overrides"], row["preset"])
    for name, value in found._asdict().items():
        assert value <= row[name], name
    assert found.calls > 1000
    assert found.gigabytes > 1
    assert (found.from_host, found.to_host) == (0, 0)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.discriminator.kind=wgan", "model.appearance.gradient=paper", "loss.teacher_style=two_labels"],
        ["model.discriminator.kind=nsgan", "model.appearance.heads=pcb", "loss.tune_encoder=1"],
        ["model.appearance.train_bn=false", "data.erasing=0", "loss.teacher_style=hard"],
    ],
)
def test_nothing_in_the_step_waits_for_the_device(overrides: list[str]) -> None:
    """A number that is asked for on `meta` is an error; a tensor of the host is counted."""
    found = counted(LATE, 2, overrides, "tiny")
    assert (found.from_host, found.to_host) == (0, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_in_the_step_waits_for_a_gpu() -> None:
    """What `meta` stands for, with CUDA's own watch on it; the first iteration may wait, to make what lasts."""
    step, batch = step_on("cuda", "tiny", 4)
    step(*batch, LATE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(*batch, LATE + 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    step.optimizers.watch.stop(LATE + 1)


def test_what_waits_for_the_device_is_counted_or_fails() -> None:
    x = torch.zeros(4, 3, device="meta")
    with Counts() as counts:
        x + 1
        x.view(3, 4)
        torch.empty_like(x)
    assert (counts.calls.total(), counts.views, counts.bytes) == (1, 1, 2 * 4 * 3 * 4)
    for index in (torch.tensor([0, 1]), [0, 1]):
        with Counts() as counts:
            x[index]
        assert counts.from_host.total() == 1
    with pytest.raises((RuntimeError, NotImplementedError)):
        x.sum().item()
