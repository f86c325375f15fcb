from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgnet.datasets.records import Dataset, Split, concatenate, join, labels
from dgnet.errors import UserError


def split(identities: list[int], cameras: list[int] | None = None, name: str = "x", **columns: list[str]) -> Split:
    return Split(
        [Path(f"{name}{number}.jpg") for number in range(len(identities))],
        np.array(identities, np.int64),
        np.array(cameras or [1] * len(identities), np.int64),
        {key: np.array(values) for key, values in columns.items()},
    )


def test_labels_are_contiguous_and_sorted() -> None:
    classes, people = labels(np.array([30, 7, 30, 12]))
    assert people == [7, 12, 30]
    assert classes.tolist() == [2, 0, 2, 1]
    assert classes.dtype == np.int64


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_labels_can_be_undone(identities: list[int]) -> None:
    classes, people = labels(np.array(identities))
    assert [people[label] for label in classes] == identities
    assert set(classes.tolist()) == set(range(len(people)))


def test_people_leave_out_junk_and_distractors() -> None:
    assert split([5, -1, 0, 5, 2]).people.tolist() == [2, 5]


def test_subset_keeps_order_and_columns() -> None:
    whole = split([1, 2, 3], [4, 5, 6], colour=["red", "green", "blue"])
    chosen = whole.subset([2, 0])
    assert [path.name for path in chosen.paths] == ["x2.jpg", "x0.jpg"]
    assert (chosen.identities.tolist(), chosen.cameras.tolist()) == ([3, 1], [6, 4])
    assert chosen.columns["colour"].tolist() == ["blue", "red"]
    assert whole.subset([False, True, False]).identities.tolist() == [2]
    assert len(whole.subset([])) == 0


def test_a_split_of_unequal_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        Split([Path("a")], np.array([1, 2]), np.array([1]))


def test_has_cameras() -> None:
    assert split([1, 2], [-1, 3]).has_cameras
    assert not split([1, 2], [-1, -1]).has_cameras


def test_concatenate_keeps_shared_columns() -> None:
    both = concatenate([split([1], colour=["red"], kind=["a"]), split([2, 3], colour=["blue", "green"])])
    assert both.identities.tolist() == [1, 2, 3]
    assert {name: values.tolist() for name, values in both.columns.items()} == {"colour": ["red", "blue", "green"]}


def test_join_keeps_people_and_cameras_of_different_sets_apart() -> None:
    first = Dataset("one", Path("one"), train=split([1, 3, 3], [1, 2, 6]), query=split([9]))
    second = Dataset("two", Path("two"), train=split([1, 2], [-1, -1]))
    third = Dataset("three", Path("three"), train=split([1, 1], [0, 1]))
    joined = join([first, second, third])
    assert joined.name == "one+two+three"
    assert joined.train.identities.tolist() == [1, 3, 3, 4, 5, 6, 6]
    assert joined.train.cameras.tolist() == [1, 2, 6, -1, -1, 7, 8]
    assert joined.train.columns["source"].tolist() == ["one"] * 3 + ["two"] * 2 + ["three"] * 2
    assert list(joined.splits) == ["train"]


def test_join_needs_training_images() -> None:
    with pytest.raises(UserError, match="empty at here has no train images"):
        join([Dataset("full", Path("full"), train=split([1])), Dataset("empty", Path("here"))])


def test_require_gives_the_reason() -> None:
    dataset = Dataset("a", Path("a"), train=split([1]), absent={"query": "folder query is missing"})
    dataset.require("train")
    with pytest.raises(UserError, match=r"^folder query is missing$"):
        dataset.require("train", "query")
    with pytest.raises(UserError, match="a at a has no gallery images"):
        dataset.require("gallery")
