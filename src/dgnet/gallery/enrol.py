"""Photos into a gallery: embedded batch by batch, and safe on disk after every few hundred."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.gallery.ask import Kept
from dgnet.gallery.embedding import Embedder, embedded, left_out
from dgnet.gallery.entries import Entry
from dgnet.images.pieces import Unreadable
from dgnet.retrieval.scores import unit

COMMIT = 512  # entries between two commits


class Enrolled(NamedTuple):
    """What became of the entries that were given."""

    added: int
    """New, or in the place of one whose files have changed."""
    known: int
    """In the gallery already, and passed over."""
    unreadable: int


def enrol(gallery: Kept, model: Embedder, entries: Sequence[Entry], on_unreadable: Unreadable = "error") -> Enrolled:
    """Embed entries and add them; those that are in the gallery already, with unchanged files, are passed over.

    Every few hundred entries are brought to disk together and said to be safe: what a killed process leaves is whole,
    and the same call goes on from there. A tracklet's feature is the mean of its photos', of length 1.

    Raises:
        UserError: a photo that cannot be read, after what came before it was added; another writer.
    """
    with gallery.writing():
        known = gallery.known()
        unique = {entry.key: entry for entry in entries}
        new = [entry for key, entry in unique.items() if known.get(key) != entry.state]
        waiting: list[tuple[Entry, Tensor]] = []
        told: list[str] = []
        added, there = 0, gallery.about.entries

        def commit() -> int:
            """Bring to disk what waits for it; returns how many entries there are now."""
            nonlocal added, there
            if waiting:
                done, features = zip(*waiting, strict=True)
                there = gallery.add(done, torch.stack(features))
                added += len(waiting)
                waiting.clear()
            return there

        try:
            for pair in _features(model, new, on_unreadable, told):
                waiting.append(pair)
                if len(waiting) >= COMMIT:
                    console.notice(f"{commit()} entries are safe in {gallery.place}")
        except KeyboardInterrupt:
            commit()
            raise
        except UserError as error:
            raise UserError(
                f"{error}; {commit()} entries are in {gallery.place}: mend or remove that one, or pass it over "
                "(--on-unreadable skip), and the same command goes on"
            ) from error
        commit()
        left_out(told, sum(len(entry.pieces) for entry in new))
        return Enrolled(added, len(unique) - len(new), len(new) - added)


def _features(
    model: Embedder, entries: Sequence[Entry], on_unreadable: Unreadable, told: list[str]
) -> Iterator[tuple[Entry, Tensor]]:
    """Each entry with its feature [D], as soon as its last photo is seen; one without a readable photo is left out."""
    owner = [n for n, entry in enumerate(entries) for _ in entry.pieces]
    pieces = [piece for entry in entries for piece in entry.pieces]
    seen: dict[int, list[Tensor]] = {}
    at = 0
    for batch in embedded(model, pieces, on_unreadable, "gallery"):
        told += batch.told
        for place, feature in zip(batch.places, batch.features, strict=True):
            seen.setdefault(owner[place], []).append(feature)
        at += model.batch
        complete = owner[at] if at < len(owner) else len(entries)
        for n in [n for n in seen if n < complete]:
            yield entries[n], unit(torch.stack(seen.pop(n)).mean(0, keepdim=True), 1)[0]
