"""What trackers do with a file, done here as their loaders do it: none of them is installed, two are under the AGPL."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import dgnet
from dgnet.errors import UserError
from dgnet.export.session import Exported
from dgnet.pixels import IMAGENET_MEAN, IMAGENET_STD


def crops(photos: list[Path]) -> list[np.ndarray]:
    """People of several sizes, as a detector cuts them out."""
    return [
        np.asarray(Image.open(path).convert("RGB").resize((20 + 3 * place, 50 + 2 * place)))
        for place, path in enumerate(photos[:7])
    ]


def stretched(picture: np.ndarray, height: int, width: int) -> torch.Tensor:
    """Bilinear and without smoothing, as OpenCV and `interpolate` do it: [3, height, width] in 0 to 255."""
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)[0]


def likeness(found: np.ndarray, wanted: torch.Tensor) -> float:
    """The smallest cosine of rows: not 1, since the model's own photos are rounded to bytes once they are scaled."""
    return float((torch.from_numpy(found) * wanted).sum(1).min())


def test_ultralytics_takes_the_height_for_a_square_and_feeds_rgb_below_one(
    model: dgnet.Model, photos: list[Path], tmp_path: Path
) -> None:
    path = model.export(tmp_path / "reid.onnx", tracker="ultralytics", check=photos).path
    session = onnxruntime.InferenceSession(str(path))
    shape = session.get_inputs()[0].shape
    assert isinstance(shape[0], str)  # a free batch, or it would pad
    assert shape[1:] == [3, 256, 256]
    side = shape[2]
    batch = torch.stack([stretched(picture, side, side) / 255 for picture in crops(photos)])
    (found,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    assert found.shape == (7, model.dimensions)
    seen = [(each * 255).round().byte() for each in batch]
    assert likeness(found, model.embed(seen)) > 0.99
    (wrong,) = session.run(None, {session.get_inputs()[0].name: (batch.numpy() - 0.45) / 0.22})
    assert likeness(wrong, model.embed(seen)) < 0.99

    # Any property makes its loader read these; one that is missing is a KeyError there.
    metadata = session.get_modelmeta().custom_metadata_map
    assert [int(metadata[key]) for key in ("stride", "batch", "channels")] == [32, 1, 3]
    assert ast.literal_eval(metadata["imgsz"]) == [256, 256]
    assert ast.literal_eval(metadata["names"]) == {0: "person"}
    assert ast.literal_eval(metadata["args"]) == {"dynamic": True}
    assert metadata["task"]


def test_boxmot_feeds_256_by_128_with_mean_and_deviation(
    model: dgnet.Model, photos: list[Path], tmp_path: Path
) -> None:
    path = model.export(tmp_path / "osnet_x0_25_anna.onnx", tracker="boxmot", check=photos).path
    session = onnxruntime.InferenceSession(str(path))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pictures = [stretched(picture, 256, 128) for picture in crops(photos)]
    batch = torch.stack([(picture / 255 - mean) / std for picture in pictures])
    (found,) = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: batch.numpy()})
    wanted = model.embed([picture.round().byte() for picture in pictures])
    assert likeness(found, wanted) > 0.99
    (wrong,) = session.run(None, {session.get_inputs()[0].name: torch.stack(pictures).numpy() / 255})
    assert likeness(wrong, wanted) < 0.99
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)  # it divides by the length


def test_boxmot_tells_a_network_by_the_name_of_its_file(
    model: dgnet.Model, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"anna.onnx: BoxMOT tells .* by its file's name.*; osnet_x0_25_anna.onnx is"):
        model.export(tmp_path / "anna.onnx", tracker="boxmot", check=photos)
    for word in ("clip", "lmbn", "veri"):
        with pytest.raises(UserError, match=f"BoxMOT feeds files with '{word}' in their name otherwise"):
            model.export(tmp_path / f"osnet_x0_25_{word}.onnx", tracker="boxmot", check=photos)
    assert not list(tmp_path.iterdir())


def test_deep_sort_takes_features_of_boxes(model: dgnet.Model, photos: list[Path], tmp_path: Path) -> None:
    exported = Exported(model.export(tmp_path / "anna.onnx", tracker="deepsort", check=photos).path)
    assert exported.about.normalise
    frame = np.random.default_rng(0).integers(256, size=(90, 120, 3), dtype=np.uint8)  # BGR, as OpenCV gives it
    detections = [([10, 5, 20, 40], 0.9, "person"), ([60, 20, 25, 60], 0.8, "person")]  # left, top, width, height
    boxes = [[left, top, left + width, top + height] for (left, top, width, height), _, _ in detections]
    features = exported.embed_boxes(frame[..., ::-1], boxes)
    assert len(features) == len(detections)
    torch.testing.assert_close(features, model.embed_boxes(frame[..., ::-1], boxes), atol=1e-5, rtol=0)
    assert (features - model.embed_boxes(frame, boxes)).abs().max() > 1e-3  # the order of colours matters
