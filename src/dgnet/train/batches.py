"""Endless training batches that can be resumed exactly.

Batch number t is a pure function of the seed and t: its epoch's shuffle, its positives and its augmentation each have
a generator of their own, seeded from (seed, what for, which one). The whole state is therefore one number, and neither
prefetching nor the device changes what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.images import transforms
from dgnet.images.store import Images
from dgnet.train.chance import generator

Order = Callable[[torch.Generator], Tensor]
"""One epoch: a function from a generator to the indices of its batches, int64 [batches, n]."""


@dataclass(frozen=True)
class Augment:
    """Random flip and crop (see `transforms.augment`)."""

    flip: float = 0.5
    pad: int = 10


@dataclass(frozen=True)
class Share:
    """Which batches are this process's: of one order that all have in common, every `of`-th, from number `rank` on.

    So in an epoch of all processes together no photo is missed, and none is seen twice.
    """

    rank: int = 0
    of: int = 1

    def number(self, t: int) -> int:
        """Of this process's batch t in the common order."""
        return t * self.of + self.rank


@dataclass(frozen=True)
class Single:
    """One batch of photos: indices [n], normalised images [n, 3, H, W], labels [n]."""

    index: Tensor
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Batch:
    """Two half-batches [a; b] of n = 2B photos, each with a positive: another photo of the same person."""

    index: Tensor  # [2B]
    positive_index: Tensor  # [2B]
    x: Tensor  # [2B, 3, H, W]
    x_pos: Tensor  # [2B, 3, H, W]
    y: Tensor  # [2B]


T = TypeVar("T")


class Stream(Generic[T]):
    """Batches 0, 1, 2, ... of `make(t)`, without end; with `prefetch` n, n threads make them ahead."""

    def __init__(self, make: Callable[[int], T], identity: dict[str, int], prefetch: int) -> None:
        self._make, self._identity, self._prefetch = make, identity, prefetch
        self._next = 0
        self._worker = ThreadPoolExecutor(max(1, prefetch), thread_name_prefix="dgnet-batches")
        self._ahead: deque[Future[T]] = deque()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._prefetch:
            while len(self._ahead) <= self._prefetch:
                self._ahead.append(self._worker.submit(self._make, self._next + len(self._ahead)))
            batch = self._ahead[0].result()
            self._ahead.popleft()
        else:
            batch = self._make(self._next)
        self._next += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands: the number of the next batch, and what it depends on."""
        return {**self._identity, "next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from `state`: the next batch is bit-equal to the one that would have followed.

        Raises:
            UserError: the state is of another seed, batch size or training set.
        """
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise UserError(f"cannot resume the data order: {key} was {state.get(key)}, now it is {value}")
        while self._ahead:
            self._ahead.pop().cancel()
        self._next = state["next"]


class OneStream(Stream[Single]):
    """Batches of photos in one order: for the teacher, with `shuffled`, `identity_balanced` or `camera_balanced`.

    Args:
        images: N images by index.
        labels: int64 [N], classes from 0.
        order: one epoch's batches; `batches_per_epoch` is their number.
        seed: decides order and augmentation.
        augment: None for images as they are.
        device: where the batches are augmented and end up.
        prefetch: batches made ahead, each by a thread of its own; 0 makes each when it is asked for.
        share: of the batches, in one of several processes; `batches_per_epoch` counts those of all.
    """

    def __init__(
        self,
        images: Images,
        labels: npt.ArrayLike,
        order: Order,
        seed: int = 0,
        augment: Augment | None = Augment(),
        device: torch.device | str = "cpu",
        prefetch: int = 0,
        share: Share = Share(),
    ) -> None:
        y = _labels(images, labels)
        batch, self.batches_per_epoch = _batches(order, seed, stream=0)
        to = partial(torch.Tensor.to, device=device, non_blocking=True)

        def make(t: int) -> Single:
            number = share.number(t)
            index = batch(number)
            x = _load(images, index, generator(seed, "augment", number), augment, device)
            return Single(to(index), x, to(y[index]))

        super().__init__(make, {"seed": seed, "images": len(y), "batch": batch(0).numel()}, prefetch)


class TwoStreams(Stream[Batch]):
    """Two independently shuffled passes a and b over one training set, each photo with a positive.

    `next(streams)` is a `Batch` [a; b]. Each pass is reshuffled in every epoch and drops its last incomplete
    half-batch. The positive is drawn anew at each access among the other photos of the person, and is the photo itself
    where there is none. Photos and positives are augmented independently. What is not named below
    is as in `OneStream`.

    Args:
        half_batch: B, photos from each pass.
        order: one epoch of each pass; `shuffled` unless given, then its batches are the half-batches.
        parts: how many such batches make one of this stream, one behind the other.

    Raises:
        UserError: fewer photos than a half-batch, or another number of labels than of images.
    """

    def __init__(
        self,
        images: Images,
        labels: npt.ArrayLike,
        half_batch: int = 8,
        seed: int = 0,
        augment: Augment | None = Augment(),
        device: torch.device | str = "cpu",
        order: Order | None = None,
        prefetch: int = 0,
        share: Share = Share(),
        parts: int = 1,
    ) -> None:
        y = _labels(images, labels)
        order = order or shuffled(len(y), half_batch)
        (a, self.batches_per_epoch), (b, _) = (_batches(order, seed, stream) for stream in (0, 1))
        to = partial(torch.Tensor.to, device=device, non_blocking=True)
        positives = Positives(y)
        if positives.alone:
            console.notice(f"identities with a single photo, which is its own positive: {positives.alone}")

        def part(number: int) -> Batch:
            index = torch.cat([a(number), b(number)])  # [2B]
            positive = positives.draw(index, generator(seed, "positive", number))
            both = torch.cat([index, positive])
            x, x_pos = _load(images, both, generator(seed, "augment", number), augment, device).chunk(2)
            return Batch(to(index), to(positive), x, x_pos, to(y[index]))

        def make(t: int) -> Batch:
            made = [part(share.number(parts * t + place)) for place in range(parts)]
            if parts == 1:
                return made[0]
            return Batch(**{key: torch.cat([vars(one)[key] for one in made]) for key in vars(made[0])})

        super().__init__(make, {"seed": seed, "images": len(y), "batch": 2 * a(0).numel()}, prefetch)


class Positives:
    """For each photo, the other photos with the same label. `alone` counts labels with a single photo."""

    def __init__(self, labels: Tensor) -> None:
        group, sizes = map(torch.from_numpy, np.unique(labels.numpy(), return_inverse=True, return_counts=True)[1:])
        self._photos = labels.argsort(stable=True)  # [N], photos by label
        self._start = (sizes.cumsum(0) - sizes)[group]  # [N], where the photo's label begins in there
        self._size = sizes[group]
        self._rank = torch.empty_like(labels)  # [N], the photo's place within its label
        self._rank[self._photos] = torch.arange(len(labels)) - self._start[self._photos]
        self.alone = int((sizes == 1).sum())

    def draw(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """int64 [n] -> int64 [n], uniform over the others of the same label; the photo itself where there is none."""
        size = self._size[index]
        step = 1 + (torch.rand(len(index), generator=generator, dtype=torch.float64) * (size - 1)).long()
        return self._photos[self._start[index] + (self._rank[index] + step) % size]


def shuffled(count: int, batch: int) -> Order:
    """Every photo once per epoch, in random order; the last incomplete batch is dropped."""
    if batch < 1 or count < batch:
        raise UserError(f"{count} training photos do not fill a batch of {batch}: use a smaller batch or more photos")

    def epoch(generator: torch.Generator) -> Tensor:
        return torch.randperm(count, generator=generator)[: count - count % batch].view(-1, batch)

    return epoch


def identity_balanced(labels: npt.ArrayLike, identities: int, photos: int) -> Order:
    """P x K batches: P = `identities` different people with K = `photos` each (Hermans et al., 2017).

    An epoch visits every identity once (less those that do not fill a batch). A person's photos are drawn without
    repetition as far as they go, then repeated in the same order.
    """
    y = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    sizes = torch.from_numpy(np.unique(y.numpy(), return_counts=True)[1])  # [I]
    start = sizes.cumsum(0) - sizes
    if len(sizes) < identities:
        raise UserError(f"{len(sizes)} identities do not fill a batch of {identities} identities x {photos} photos")

    def epoch(generator: torch.Generator) -> Tensor:
        mixed = torch.randperm(len(y), generator=generator)
        mixed = mixed[y[mixed].argsort(stable=True)]  # photos by identity, in random order within each
        people = torch.randperm(len(sizes), generator=generator)
        people = people[: len(sizes) - len(sizes) % identities, None]
        return mixed[start[people] + torch.arange(photos) % sizes[people]].view(-1, identities * photos)

    return epoch


def camera_balanced(cameras: npt.ArrayLike, batch: int) -> Order:
    """Batches with an equal share of every camera (one more or less where the batch does not divide).

    An epoch has as many photos as the set. Each camera's photos come in shuffled passes, so those of a camera with few
    photos come more often.
    """
    places = np.asarray(cameras, dtype=np.int64)
    if (places < 0).any():
        raise UserError(f"camera-balanced batches need the camera of every photo; {(places < 0).sum()} are unknown")
    shuffled(len(places), batch)
    photos = [torch.as_tensor(np.flatnonzero(places == camera)) for camera in np.unique(places)]

    def epoch(generator: torch.Generator) -> Tensor:
        batches, rounds = len(places) // batch, -(-len(places) // len(photos))
        drawn = []
        for own in photos:
            passes = [own[torch.randperm(len(own), generator=generator)] for _ in range(-(-rounds // len(own)))]
            drawn.append(torch.cat(passes)[:rounds])
        turns = torch.stack(drawn, dim=1)[:, torch.randperm(len(photos), generator=generator)]  # [rounds, cameras]
        return turns.flatten()[: batches * batch].view(batches, batch)

    return epoch


def _batches(order: Order, seed: int, stream: int) -> tuple[Callable[[int], Tensor], int]:
    """Batch t of an order that is drawn anew in each epoch, as a function of t, and the batches per epoch."""

    @lru_cache(maxsize=2)  # the epoch at hand, and the next one while working ahead
    def epoch(number: int) -> Tensor:
        return order(generator(seed, "order", stream, number))

    length = len(epoch(0))
    return lambda t: epoch(t // length)[t % length], length


def _labels(images: Images, labels: npt.ArrayLike) -> Tensor:
    y = torch.as_tensor(np.asarray(labels, dtype=np.int64))
    if len(y) != len(images):
        raise UserError(f"{len(images)} images but {len(y)} labels")
    return y


def _load(
    images: Images, index: Tensor, generator: torch.Generator, augment: Augment | None, device: torch.device | str
) -> Tensor:
    """Images at `index` [n], on the device, augmented and normalised: float [n, 3, H, W]."""
    pixels = images[index.numpy()]
    if torch.device(device).type == "cuda" and not pixels.is_cuda:
        pixels = pixels.pin_memory()
    pixels = pixels.to(device, non_blocking=True)
    if augment is not None:
        pixels = transforms.augment(pixels, generator, augment.flip, augment.pad)
    return transforms.normalise(pixels)
