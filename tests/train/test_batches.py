from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dgnet import console
from dgnet.errors import UserError
from dgnet.images.transforms import normalise
from dgnet.train import batches
from dgnet.train.batches import (
    Augment,
    Batch,
    OneStream,
    Positives,
    Share,
    TwoStreams,
    camera_balanced,
    identity_balanced,
    shuffled,
)

LABELS = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
SMALL = Augment(pad=2)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "notice", lines.append)
    return lines


def pictures(count: int = len(LABELS)) -> Tensor:
    return torch.randint(0, 256, (count, 8, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def streams(**options: object) -> TwoStreams:
    return TwoStreams(pictures(), LABELS, half_batch=3, **{"seed": 1, "augment": SMALL, **options})  # type: ignore[arg-type]


def take(stream: TwoStreams, count: int) -> list[Batch]:
    return [next(stream) for _ in range(count)]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(tensor, getattr(other, name)) for name, tensor in vars(one).items())


def test_a_batch_is_what_its_indices_say() -> None:
    batch = next(streams(augment=None))
    labels = torch.tensor(LABELS)
    assert batch.index.shape == batch.positive_index.shape == batch.y.shape == (6,)
    assert batch.x.shape == batch.x_pos.shape == (6, 3, 8, 6)
    assert torch.equal(batch.y, labels[batch.index])
    assert torch.equal(batch.y, labels[batch.positive_index])
    assert torch.equal(batch.x, normalise(pictures()[batch.index]))
    assert torch.equal(batch.x_pos, normalise(pictures()[batch.positive_index]))
    assert batch.x.is_contiguous(memory_format=torch.channels_last)


def test_each_pass_sees_every_photo_once_and_is_reshuffled() -> None:
    stream = streams()
    assert stream.batches_per_epoch == 4
    epochs = [torch.stack([b.index for b in take(stream, 4)]) for _ in range(6)]
    orders = []
    for epoch in epochs:
        for half in (epoch[:, :3], epoch[:, 3:]):
            assert len(half.unique()) == 12  # 13 photos, the last incomplete half-batch dropped
            orders.append(tuple(half.flatten().tolist()))
    assert len(set(orders)) == 12
    assert torch.cat(epochs).unique().tolist() == list(range(13))


def test_photo_and_positive_are_augmented_independently() -> None:
    """Everybody has one photo, so photo and positive are the same picture, flipped and cropped differently."""
    picture = torch.arange(8 * 6 * 3, dtype=torch.uint8).view(1, 8, 6, 3).expand(64, -1, -1, -1)
    stream = TwoStreams(picture, range(64), half_batch=32, augment=Augment(flip=0.5, pad=2))
    batch, following = take(stream, 2)
    assert torch.equal(batch.index, batch.positive_index)
    equal = (batch.x == batch.x_pos).flatten(1).all(dim=1).float().mean().item()
    assert equal < 0.15  # 1 in 50 by chance
    assert len(batch.x.flatten(1).unique(dim=0)) > 30  # of 50
    assert (batch.x == following.x).flatten(1).all(dim=1).float().mean().item() < 0.15


@settings(max_examples=25, deadline=None)
@given(stop=st.integers(0, 11), ahead=st.sampled_from([0, 1, 3]), ahead_later=st.sampled_from([0, 2]))
def test_a_resumed_stream_is_bit_equal(stop: int, ahead: int, ahead_later: int) -> None:
    whole = take(streams(), 13)
    first = streams(prefetch=ahead)
    begun = take(first, stop)
    torch.rand(3)  # the global generator has no say
    later = streams(prefetch=ahead_later)
    take(later, 2)
    later.load_state_dict(first.state_dict())
    assert all(map(same, whole, begun + take(later, 13 - stop)))


def test_one_seed_one_stream() -> None:
    assert all(map(same, take(streams(), 5), take(streams(), 5)))
    assert not same(next(streams()), next(streams(seed=2)))
    state = torch.get_rng_state()
    take(streams(), 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_state_of_something_else_is_refused() -> None:
    state = streams().state_dict()
    with pytest.raises(UserError, match="seed was 1, now it is 2"):
        streams(seed=2).load_state_dict(state)
    with pytest.raises(UserError, match="batch was 6, now it is 4"):
        TwoStreams(pictures(), LABELS, half_batch=2, seed=1).load_state_dict(state)
    with pytest.raises(UserError, match="images was 13, now it is 12"):
        TwoStreams(pictures(12), LABELS[:12], half_batch=3, seed=1).load_state_dict(state)


def test_an_error_while_working_ahead_is_raised_where_the_batch_is_taken() -> None:
    class Broken:
        def __len__(self) -> int:
            return 13

        def __getitem__(self, indices: batches.Indices) -> Tensor:
            raise UserError("disk on fire")

    stream = TwoStreams(Broken(), LABELS, half_batch=3, prefetch=2)
    for _ in range(3):
        with pytest.raises(UserError, match="disk on fire"):
            next(stream)
    assert stream.state_dict()["next"] == 0


def test_positives_are_uniform_over_the_others() -> None:
    positives = Positives(torch.tensor([5, 7, 5, 5, 9]))
    drawn = positives.draw(torch.arange(5).repeat(3000), torch.Generator().manual_seed(0)).view(3000, 5)
    assert drawn[:, 1].unique().tolist() == [1]
    assert drawn[:, 4].unique().tolist() == [4]
    for photo, others in [(0, [2, 3]), (2, [0, 3]), (3, [0, 2])]:
        seen, times = drawn[:, photo].unique(return_counts=True)
        assert seen.tolist() == others
        assert times.min() > 1400


def test_a_single_photo_is_told_once(told: list[str]) -> None:
    stream = TwoStreams(pictures(4), [0, 0, 1, 2], half_batch=2, augment=None)
    take(stream, 3)
    assert told == ["identities with a single photo, which is its own positive: 2"]


@pytest.mark.parametrize(
    ("labels", "half", "message"), [([0, 0, 1], 4, "3 training photos"), ([0], 1, "3 images but 1")]
)
def test_wrong_sizes(labels: list[int], half: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TwoStreams(pictures(3), labels, half_batch=half)


def test_one_stream_for_the_teacher() -> None:
    stream = OneStream(pictures(), LABELS, shuffled(13, 4), seed=3, augment=None, prefetch=1)
    assert stream.batches_per_epoch == 3
    epoch = [next(stream) for _ in range(3)]
    assert len(torch.cat([batch.index for batch in epoch]).unique()) == 12
    for batch in epoch:
        assert torch.equal(batch.y, torch.tensor(LABELS)[batch.index])
        assert torch.equal(batch.x, normalise(pictures()[batch.index]))
    again = OneStream(pictures(), LABELS, shuffled(13, 4), seed=3, augment=None)
    state = stream.state_dict()
    again.load_state_dict(state)
    assert torch.equal(next(again).x, next(stream).x)


def test_identity_balanced() -> None:
    labels = np.array([4, 4, 4, 4, 4, 8, 8, 6, 6, 6, 6, 7, 7, 7, 2])
    order = identity_balanced(labels, identities=2, photos=3)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(60):
        epoch = order(generator)
        assert epoch.shape == (2, 6)  # 5 identities: two pairs, and one is left out
        people = labels[epoch.view(4, 3).numpy()]
        assert (people == people[:, :1]).all()
        assert len(set(people[:, 0])) == 4
        for row, person in zip(epoch.view(4, 3), people[:, 0], strict=True):
            assert len(row.unique()) == {4: 3, 8: 2, 6: 3, 7: 3, 2: 1}[person]
        seen |= set(epoch.flatten().tolist())
    assert seen == set(range(15))
    with pytest.raises(UserError, match="5 identities do not fill a batch of 6 identities x 3"):
        identity_balanced(labels, 6, 3)


def test_camera_balanced() -> None:
    cameras = np.array([0] * 20 + [3] * 3 + [5] * 7)
    epoch = camera_balanced(cameras, batch=8)(torch.Generator().manual_seed(0))
    assert epoch.shape == (3, 8)
    for batch in cameras[epoch.numpy()]:
        assert sorted((batch == camera).sum() for camera in (0, 3, 5)) == [2, 3, 3]
    _, times = epoch[torch.as_tensor(cameras)[epoch] == 0].unique(return_counts=True)
    assert times.max() == 1
    _, times = epoch[torch.as_tensor(cameras)[epoch] == 3].unique(return_counts=True)
    assert times.tolist() in ([2, 3, 3], [3, 2, 3], [3, 3, 2])
    with pytest.raises(UserError, match="2 are unknown"):
        camera_balanced([0, -1, 1, -1], 2)


def test_two_streams_in_another_order() -> None:
    stream = streams(order=identity_balanced(LABELS, 2, 2))
    batch = next(stream)
    assert batch.y.view(4, 2).unique(dim=1).shape == (4, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_device_changes_nothing() -> None:
    for here, there in zip(take(streams(), 6), take(streams(device="cuda", prefetch=2), 6), strict=True):
        assert there.x.is_cuda
        assert torch.equal(here.index, there.index.cpu())
        torch.testing.assert_close(here.x, there.x.cpu(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_processes_share_every_epoch_among_them_without_a_gap_and_without_a_repetition(
    processes: int, batch: int
) -> None:
    def one(rank: int) -> OneStream:
        return OneStream(pictures(), LABELS, shuffled(len(LABELS), batch), seed=1, share=Share(rank, processes))

    per_epoch = len(LABELS) // batch
    streams = [one(rank) for rank in range(processes)]
    together = [next(stream).index for _ in range(per_epoch) for stream in streams]  # as many epochs as processes
    alone = OneStream(pictures(), LABELS, shuffled(len(LABELS), batch), seed=1)
    for epoch in range(processes):
        photos = torch.cat(together[epoch * per_epoch : (epoch + 1) * per_epoch]).tolist()
        assert len(photos) == len(set(photos)) == per_epoch * batch
        assert photos == torch.cat([next(alone).index for _ in range(per_epoch)]).tolist()


def test_processes_together_take_the_batches_of_one() -> None:
    alone, shares = streams(), [streams(share=Share(rank, 3)) for rank in range(3)]
    for _ in range(4):
        for share in shares:
            assert same(next(share), next(alone))
