"""Pictures for a report: what a generator makes of people, and what a network finds for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dgnet.config import Config
from dgnet.datasets.records import Dataset, Split
from dgnet.evaluate.protocol import alpha_of
from dgnet.evaluate.ranking import retrieve
from dgnet.generate import edit
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import Baseline
from dgnet.pixels import Pixels
from dgnet.report.page import Grid, Interpolation, Retrieval
from dgnet.retrieval.explain import explain
from dgnet.retrieval.feature_sets import FeatureSet
from dgnet.retrieval.prepared import Comparison

PEOPLE = 10  # in a row of pictures, at most


class Generated(NamedTuple):
    """What the generator makes of some people."""

    grid: Grid
    reconstructions: dict[str, Pixels]
    appearance: Interpolation
    structure: Interpolation


def generated(net: DGNet, photos: Split, config: Config) -> Generated:
    """Grid, reconstructions and interpolations of people in `photos`, of whom there must be two."""
    photos_of = [np.flatnonzero(photos.identities == person) for person in photos.people]
    one_each = [int(own[n % len(own)]) for n, own in enumerate(photos_of)]  # the cameras take turns
    another = [int(own[(n + 1) % len(own)]) for n, own in enumerate(photos_of)]
    size = (config.data.height, config.data.width)
    people, positives = (edit.read([photos.paths[k] for k in chosen[:16]], *size) for chosen in (one_each, another))

    structures, appearances = people[:PEOPLE], people[-6:]
    there = edit.swap(net, structures, structures.roll(1, 0))[0]
    back = edit.swap(net, there, there.roll(-1, 0))[0]
    rows = {
        "photo": structures,
        "from its own codes": edit.swap(net, structures, structures)[0],
        "from another photo's appearance": edit.swap(net, structures, positives[:PEOPLE])[0],
        "in a neighbour's clothes": there,
        "and back again (cycle)": back,
    }
    apart = min(3, len(people) - 1)
    start, end = people[:apart], people.roll(-apart, 0)[:apart]
    dressing = edit.interpolate_appearance(net, start, start, end)
    moving = edit.interpolate_structure(net, start, start, end)
    return Generated(
        Grid(edit.grid(net, structures, appearances).numpy(), structures.numpy(), appearances.numpy()),
        {name: row.numpy() for name, row in rows.items()},
        Interpolation(start.numpy(), start.numpy(), end.numpy(), dressing.numpy()),
        Interpolation(start.numpy(), start.numpy(), end.numpy(), moving.numpy()),
    )


def retrieved(
    net: DGNet | Baseline, found: FeatureSet, dataset: Dataset, config: Config, queries: int = 6, places: int = 10
) -> Retrieval:
    """Some queries of a data set, evenly spread, with their first answers; `found` are its features by `net`."""
    chosen = np.linspace(0, len(dataset.query) - 1, min(queries, len(dataset.query))).astype(np.int64)
    ranked, correct = retrieve(found, chosen, places, how=Comparison(alpha_of(net, config)))
    full = (ranked >= 0).all(0)  # places that every query has an answer for
    ranked, correct = ranked[:, full], correct[:, full]
    size = (config.data.height, config.data.width)
    answers = edit.read([dataset.gallery.paths[k] for k in ranked.flatten()], *size)
    photos = edit.read([dataset.query.paths[k] for k in chosen], *size)
    return Retrieval(photos.numpy(), answers.view(*ranked.shape, *size, 3).numpy(), correct)


def explained(net: DGNet | Baseline, shown: Retrieval, config: Config) -> dict[str, Pixels]:
    """Queries and first answers, each also with what speaks for and against the match: rows [Q, H, W, 3] by name."""
    if not shown.ranked.shape[1]:
        return {}
    queries, answers = torch.from_numpy(shown.queries), torch.from_numpy(shown.ranked[:, 0].copy())
    of_query, of_answer = explain(net, queries, answers, alpha_of(net, config)).painted()
    rows = {"query": queries, "what speaks in it": of_query, "first answer": answers, "what speaks in that": of_answer}
    return {name: row.numpy() for name, row in rows.items()}
