"""The exchange file, and what is said about one that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dgnet.errors import UserError
from dgnet.retrieval.feature_sets import Features, FeatureSet, load_features, save_features


def arrays(**changes):
    made = {
        "query_features": np.array([[1, 0.5], [0.25, 0]], np.float32),
        "query_ids": np.array([3, 4]),
        "query_cameras": np.array([1, 12]),
        "gallery_features": np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float32),
        "gallery_ids": np.array([4, -1, 3]),
        "gallery_cameras": np.array([1, 2, 3]),
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def test_round_trip(tmp_path):
    path = tmp_path / "new folder" / "features.npz"
    first = Features(torch.tensor([[1.0, 0.5]]), np.array([3]), np.array([12]))
    unknown = Features(np.array([[0.1, 0.2]], np.float64), np.array([-1]), np.array([-1]))
    for half, dtype in ((False, np.float32), (True, np.float16)):
        save_features(FeatureSet(first, unknown, first), path, half=half)
        read = load_features(path)
        assert read.query.features.dtype == dtype
        assert np.array_equal(read.query.features, first.features.numpy())
        assert np.array_equal(read.gallery.features, unknown.features.astype(dtype))
        assert (read.multi_query.cameras[0], read.gallery.cameras[0], read.gallery.identities[0]) == (12, -1, -1)
        assert "gallery_cameras" not in np.load(path)
    assert [file.name for file in path.parent.iterdir()] == ["features.npz"]


def test_a_file_of_another_toolkit(tmp_path):
    path = tmp_path / "f.npz"
    np.savez(path, **arrays(query_cameras=None, gallery_cameras=None, query_ids=np.array([3, 4], np.int32)))
    read = load_features(path)
    assert read.query.cameras.tolist() == [-1, -1]
    assert read.multi_query is None
    assert read.query.identities.dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery_ids": None}, "array 'gallery_ids' is missing"),
        ({"query_features": None}, "array 'query_features' is missing"),
        ({"gallery_ids": np.array([1, 2])}, r"gallery: identities have shape \[2\], but there are 3 features"),
        ({"query_cameras": np.array([1])}, r"query: cameras have shape \[1\], but there are 2 features"),
        ({"gallery_features": np.zeros((3, 5), np.float32)}, "gallery features have 5 dimensions, query features 2"),
        ({"query_features": np.array([[1, 2], [np.nan, 0]], np.float32)}, "query: feature 1 .* contains NaN"),
        ({"query_features": np.array([[np.inf, 2], [1, 0]], np.float16)}, "query: feature 0 .* infinity"),
        ({"query_features": np.zeros(2, np.float32)}, r"shape \[2\]: \[images, dimensions\] is needed"),
        ({"query_features": np.float32(1)}, "is needed"),
        ({"query_features": np.zeros((2, 2), np.int64)}, "float16, float32 or float64 is needed"),
        ({"query_ids": np.array([0.5, 1])}, "ids are not whole numbers"),
        ({"gallery_ids": np.array([], int), "gallery_features": np.zeros((0, 2), np.float32)}, "cameras have shape"),
        ({"multi_query_ids": np.array([1])}, "array 'multi_query_features' is missing"),
        ({"query_ids": np.array([object(), None])}, "not a readable .npz file of plain arrays"),
        ({"query_features": np.array([["a", "b"], ["c", "d"]])}, "is needed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    path = tmp_path / "f.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(UserError, match=message) as raised:
        load_features(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_files_that_are_none(tmp_path):
    for content in (b"", b"PK\x03\x04 cut short", b"\x93NUMPY", b"plain text"):
        path = tmp_path / "f.npz"
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable"):
            load_features(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UserError, match="not a readable"):
        load_features(tmp_path / "one.npy")
    with pytest.raises(UserError, match="no such file"):
        load_features(tmp_path / "absent.npz")


def test_hashes_tell_sets_apart():
    def made(value=1.0, identity=3):
        part = Features(np.array([[value]], np.float32), np.array([identity]), np.array([1]))
        return FeatureSet(part, part)

    assert made().label_hash() == made(value=2.0).label_hash() != made(identity=4).label_hash()
    assert made().feature_hash() == made(identity=4).feature_hash() != made(value=2.0).feature_hash()


def test_subset_by_mask_and_by_index():
    whole = Features(torch.arange(8.0).view(4, 2), np.arange(4), np.arange(4))
    masked, indexed = whole.subset(np.array([False, True, False, True])), whole.subset(np.array([1, 3]))
    assert torch.equal(masked.features, indexed.features)
    assert masked.identities.tolist() == indexed.cameras.tolist() == [1, 3]
