"""The face: what `dgnet.load` finds, what a model makes of any kind of photo, and what it says it cannot do."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from acquainted import acquainted
from PIL import Image

import dgnet
from dgnet import config as configuration
from dgnet import model as face
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.evaluate.evaluation import evaluate
from dgnet.evaluate.protocol import features
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.retrieval.feature_sets import FeatureSet
from dgnet.weights.files import save_model

TINY = configuration.load("tiny")
HEIGHT, WIDTH = TINY.data.height, TINY.data.width


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=6, test_identities=3, images_per_camera=2, height=HEIGHT, width=WIDTH)
    return folder


@pytest.fixture(scope="module")
def runs(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs as training leaves them: `joint`, `teacher`, and `begun`, which is not finished."""
    folder = tmp_path_factory.mktemp("runs")
    config = configuration.load("tiny", [f"data.root={people}"])
    for name, net in (("joint", DGNet(config, 3)), ("teacher", build_baseline(config, 3))):
        file = {"joint": "model", "teacher": "teacher"}[name]
        save_model(
            folder / name / f"{file}.safetensors", acquainted(net, people, HEIGHT, WIDTH), config, name, [1, 2, 3]
        )  # type: ignore[arg-type]
    (folder / "begun").mkdir()
    (folder / "begun" / "config.yaml").write_text(configuration.to_yaml(config))
    (folder / "empty").mkdir()
    (folder / "joint" / "checkpoints").mkdir()
    (folder / "joint" / "checkpoints" / "00000010.safetensors").touch()
    return folder


@pytest.fixture(scope="module")
def model(runs: Path) -> dgnet.Model:
    return dgnet.load(runs / "joint", device="cpu")


@pytest.fixture(scope="module")
def teacher(runs: Path) -> dgnet.Model:
    return dgnet.load(runs / "teacher", device="cpu")


@pytest.fixture(scope="module")
def photos(people: Path) -> list[Path]:
    return sorted((people / "query").glob("*.jpg"))


# Loading


def test_a_run_a_file_and_a_teacher_are_found(runs: Path) -> None:
    assert dgnet.load(str(runs / "joint")).generates
    assert dgnet.load(runs / "joint" / "model.safetensors").identities == [1, 2, 3]
    assert not dgnet.load(runs / "teacher").generates
    assert "teacher" in repr(dgnet.load(runs / "teacher"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("begun", "a run that is not finished: no model.safetensors or teacher.safetensors yet; --resume continues it"),
        ("empty", "a folder without model.safetensors or teacher.safetensors"),
        ("nowhere", "no such file$"),
        (
            "joint/checkpoints",
            r"a folder without .*; near it are \.\./model.safetensors, checkpoints/00000010.safetensors$",
        ),
    ],
)
def test_what_is_no_model_is_told(runs: Path, name: str, says: str) -> None:
    with pytest.raises(UserError, match=f"^{runs / name}: {says}"):
        dgnet.load(runs / name)


def test_an_unknown_name_is_told_what_would_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError,
        match=r"^market: no such file, nor a model .*: a run's folder, a \.safetensors file, hub:user/name, drawn$",
    ):
        dgnet.load("market")
    for wrong in ("hub:", "hub:anna", "hub:anna/", "hub:/people"):
        with pytest.raises(UserError, match=f"^{wrong}: write it as hub:user/name or hub:user/name/file$"):
            dgnet.load(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "gpu", torch.device("cuda:1")])
def test_a_device_that_is_not_there_is_told(runs: Path, model: dgnet.Model, device: str | torch.device) -> None:
    for use in (lambda: dgnet.load(runs / "joint", device), lambda: model.to(device)):
        with pytest.raises(UserError, match=f"{device}: not available here; use auto, cpu"):
            use()
    assert model.to("cpu").device == torch.device("cpu")


def test_a_model_of_the_hub_is_asked_for_by_its_two_names(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetched(source: str, advice: str) -> Path:
        asked.append(source)
        return runs / "joint" / "model.safetensors"

    monkeypatch.setattr(face, "local_file", fetched)
    dgnet.load("hub:anna/people")
    dgnet.load("hub:anna/people/old/teacher.safetensors")
    assert asked == ["hub:anna/people/model.safetensors", "hub:anna/people/old/teacher.safetensors"]


def test_importing_dgnet_imports_nothing_slow() -> None:
    code = "import sys, dgnet; print([m for m in ('torch', 'numpy', 'pydantic', 'tyro', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_face_is_what_it_says() -> None:
    assert set(dgnet.__all__) <= set(dir(dgnet))
    assert all(getattr(dgnet, name) for name in dgnet.__all__)
    assert issubclass(dgnet.UserError, ValueError)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        dgnet.lode  # noqa: B018


# Photos


def test_a_photo_is_the_same_in_every_form(model: dgnet.Model, photos: list[Path]) -> None:
    path = photos[0]
    image = Image.open(path).convert("RGB")
    array = np.asarray(image)
    unit = array.astype(np.float32) / 255
    forms: list[Any] = [path, str(path), image, array, unit, unit.astype(np.float64)]
    forms += [torch.from_numpy(unit).permute(2, 0, 1), torch.from_numpy(array.copy()).permute(2, 0, 1)]
    found = model.embed(forms)
    assert found.dtype == torch.float32
    assert found.device.type == "cpu"
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(forms)))
    torch.testing.assert_close(found[2:], found[2:3].expand(len(forms) - 2, -1), rtol=0, atol=0)
    torch.testing.assert_close(found[:2], found[2:4], rtol=0, atol=0.02)  # another JPEG decoder
    for form in forms:
        torch.testing.assert_close(model.embed(form), model.embed([form]))
    torch.testing.assert_close(model.embed(np.stack([array, array])), found[[3, 3]])
    torch.testing.assert_close(model.embed(torch.stack([forms[6], forms[6]])), found[[6, 6]])


def test_several_photos_may_be_given_by_whatever_gives_them(model: dgnet.Model, photos: list[Path]) -> None:
    wanted = model.embed(photos)
    assert len(wanted) > 2
    names = [str(path) for path in photos]
    for given in (tuple(photos), iter(photos), (path for path in photos), dict.fromkeys(photos).keys(),
                  np.array(names), np.array(photos, dtype=object), sorted(photos[0].parent.glob("*.jpg"))):  # fmt: skip
        assert torch.equal(model.embed(given), wanted)


def test_gray_photos_may_have_one_channel(model: dgnet.Model) -> None:
    gray = np.random.default_rng(0).integers(256, size=(37, 11), dtype=np.uint8)
    unit = torch.from_numpy(gray).float() / 255
    forms = [gray, gray[:, :, None], torch.from_numpy(gray), torch.from_numpy(gray)[None], unit, unit[None], gray / 255]
    found = model.embed(forms)
    torch.testing.assert_close(found, found[:1].expand(len(forms), -1), rtol=0, atol=0)


def test_gray_transparent_and_odd_sizes(model: dgnet.Model) -> None:
    rng = np.random.default_rng(0)
    gray = rng.integers(256, size=(37, 11), dtype=np.uint8)
    found = model.embed([gray, np.stack([gray] * 3, 2), Image.fromarray(gray), np.zeros((1, 1, 3), np.uint8)])
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.parametrize(
    ("photo", "says"),
    [
        (np.full((4, 4, 3), 128.0), r"floats from 128 to 128; they must lie in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"they must lie in \[0, 1\]"),
        (torch.full((3, 4, 4), -0.5), r"floats from -0.5 to -0.5"),
        (np.zeros((4, 4, 4), np.uint8), r"an array of shape \[4, 4, 4\]; RGB as \[H, W, 3\] would be right"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \[0, 4, 3\]"),
        (np.zeros((4, 4, 3), np.int32), "values of type int32"),
        (torch.zeros(4, 4, 3), r"a float tensor of shape \[4, 4, 3\]"),
        (torch.zeros(3, 4, 4, device="meta"), "a tensor without plain values"),
        (torch.zeros(3, 4, 4).to_sparse(), "a tensor without plain values"),
        (torch.zeros(2, 4, 4), r"a float tensor of shape \[2, 4, 4\]"),
        (b"anna.jpg", "of type bytes"),
        ([np.zeros((4, 4, 3))], "of type list"),
        ({"a": 1}, "of type dict"),
        (7, "of type int; a path, a PIL image, an array or a tensor is needed"),
        (None, "of type NoneType"),
    ],
)
def test_what_is_no_photo_is_told_by_its_place(model: dgnet.Model, photos: list[Path], photo: Any, says: str) -> None:
    with pytest.raises(UserError, match=rf"^image 1 \(counted from 0\): .*{says}"):
        model.embed([photos[0], photo])


def test_many_photos_are_seen_in_batches(runs: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = dgnet.load(runs / "joint", device="cpu"), []
    embed = model.net.embed
    monkeypatch.setattr(model.net, "embed", lambda x: sizes.append(len(x)) or embed(x))
    model.embed(photos[:1] * 150)
    assert max(sizes) == model.config.evaluate.batch


# Recognise


@pytest.mark.parametrize("alphas", [(0.5, 0.0), (0.0,), (-1.0,), (2.0,)])
def test_the_dot_product_ranks_as_the_first_row_of_the_table(
    runs: Path, people: Path, tmp_path: Path, alphas: tuple[float, ...]
) -> None:
    start = dgnet.load(runs / "joint", device="cpu")
    config = configuration.from_dict(configuration.to_dict(start.config) | {"evaluate": {"alphas": list(alphas)}})
    save_model(tmp_path / "model.safetensors", start.net, config, "joint", [])
    model = dgnet.load(tmp_path, device="cpu")
    results = model.evaluate(people)
    assert len(results) == len(alphas)

    from dgnet.datasets.read import read_dataset

    dataset = read_dataset(people, "auto")
    halves = features(model.net, config, dataset, torch.device("cpu"))
    alone = FeatureSet(*(  # the same labels, with the features that a user searches by
        type(part)(model.embed(split.paths), part.identities, part.cameras)
        for part, split in ((halves.query, dataset.query), (halves.gallery, dataset.gallery))
    ))  # fmt: skip
    assert alone.query.features.shape[1] == model.dimensions
    mine = evaluate(alone, alpha=None)
    np.testing.assert_array_equal(mine.first_hit, results[0].first_hit)
    np.testing.assert_allclose(mine.ap_standard, results[0].ap_standard, atol=1e-12)


def test_parts_are_the_two_halves(model: dgnet.Model, photos: list[Path]) -> None:
    parts = model.embed(photos, parts=True)
    first, second = parts.chunk(2, dim=1)
    for half in (first, second):
        torch.testing.assert_close(half.norm(dim=1), torch.ones(len(photos)))
    expected = torch.cat([first, second * 0.5**0.5], dim=1) / 1.5**0.5
    torch.testing.assert_close(model.embed(photos), expected)


def test_nothing_gives_nothing_of_the_right_length(
    model: dgnet.Model, teacher: dgnet.Model, photos: list[Path]
) -> None:
    for one in (model, teacher):
        assert one.embed([]).shape == (0, one.dimensions) == (0, one.embed(photos[0]).shape[1])
        assert one.embed_boxes(photos[0], []).shape == (0, one.dimensions)
        assert one.embed_boxes(photos[0], np.zeros((0, 4))).shape == (0, one.dimensions)


@pytest.mark.parametrize("alpha", [0.5, 0.0, -1.0])
def test_nothing_has_the_length_that_something_would_have(
    runs: Path, photos: list[Path], tmp_path: Path, alpha: float
) -> None:
    start = dgnet.load(runs / "joint", device="cpu")
    config = configuration.from_dict(configuration.to_dict(start.config) | {"evaluate": {"alphas": [alpha]}})
    save_model(tmp_path / "model.safetensors", start.net, config, "joint", [])
    model = dgnet.load(tmp_path, device="cpu")
    for parts in (False, True):
        wanted = (0, model.embed(photos[0], parts=parts).shape[1])
        assert model.embed([], parts=parts).shape == wanted
        assert model.embed_boxes(photos[0], [], parts=parts).shape == wanted


@pytest.mark.parametrize(
    "boxes",
    [
        torch.tensor([[10.0, 5, 30, 45]], requires_grad=True),
        torch.tensor([[10, 5, 30, 45]], dtype=torch.bfloat16),
        np.array([[10, 5, 30, 45]], dtype=np.int16),
        ((10, 5, 30, 45),),
        iter([[10, 5, 30, 45]]),
    ],
)
def test_boxes_may_come_from_any_detector(model: dgnet.Model, boxes: Any) -> None:
    frame = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)
    torch.testing.assert_close(model.embed_boxes(frame, boxes), model.embed(frame[5:45, 10:30]))


def test_boxes_are_cut_out_of_the_frame(model: dgnet.Model) -> None:
    frame = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)
    found = model.embed_boxes(frame, [[10, 5, 30, 45], [-20, -9, 12, 200], [79.5, 10, 300, 20]])
    crops = [frame[5:45, 10:30], frame[:, :12], frame[10:20, 79:]]
    torch.testing.assert_close(found, model.embed(crops))
    torch.testing.assert_close(model.embed_boxes(Image.fromarray(frame), torch.tensor([[10, 5, 30, 45]])), found[:1])


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([[0, 0, 5, 5], [80, 0, 90, 9], [4, 9, 4, 20]], r"frame of 80 x 60 \(counted from 0\): 1 .*, 2 "),
        ([[5, 5, 1, 1]], "without a pixel"),
        ([[0, 0, 5]], r"shape \[1, 3\]"),
        ([[0, 0, 0, 0]] * 10, r": 0 \[0, 0, 0, 0\], .*7 \[0, 0, 0, 0\] and 2 more$"),
        (torch.tensor([[5.0, 5, 5, 9]]), r": 0 \[5, 5, 5, 9\]$"),
        ([["left", 0, 5, 5]], r"boxes: \[n, 4\], x1, y1, x2, y2 in pixels, would be right"),
        ([[0, 0, 5, 5], [1, 2]], r"boxes: \[n, 4\]"),
        (None, r"shape \[\]"),
        ([0, 0, 5, 5], r"shape \[4\]"),
        ([[0, 0, float("nan"), 5]], "finite"),
    ],
)
def test_boxes_that_show_nobody_are_named(model: dgnet.Model, boxes: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        model.embed_boxes(np.zeros((60, 80, 3), np.uint8), boxes)


# Generate


def test_swap_pairs_or_one_against_many(model: dgnet.Model, photos: list[Path]) -> None:
    a, b, c = photos[:3]
    pictures = model.swap(structure_of=[a, b], appearance_of=[b, c])
    assert [picture.size for picture in pictures] == [(WIDTH, HEIGHT)] * 2
    tensor = model.swap(structure_of=[a, b], appearance_of=[b, c], as_tensor=True)
    assert (tensor.dtype, tensor.shape) == (torch.uint8, (2, HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(np.asarray(pictures[1]), tensor[1].numpy())

    dressed = model.swap(structure_of=a, appearance_of=[b, c], as_tensor=True)
    torch.testing.assert_close(dressed[0], tensor[0], rtol=0, atol=1)  # another batch rounds otherwise
    moved = model.swap(structure_of=[a, b], appearance_of=c, as_tensor=True)
    torch.testing.assert_close(moved[1], tensor[1], rtol=0, atol=1)  # another batch rounds otherwise
    with pytest.raises(UserError, match="2 structures and 3 appearances"):
        model.swap(structure_of=[a, b], appearance_of=[a, b, c])


def test_the_grid_and_the_ends_of_an_interpolation_are_swaps(model: dgnet.Model, photos: list[Path]) -> None:
    a, b, c = photos[:3]
    grid = model.grid([a, b], [c], as_tensor=True)
    assert torch.equal(grid[0], model.swap([a, b], c, as_tensor=True))
    assert [len(row) for row in model.grid([a, b], [a, b, c])] == [2, 2, 2]

    strip = model.interpolate(a, b, of="appearance", fixed=c, steps=3, as_tensor=True)
    assert torch.equal(strip[0, [0, -1]], model.swap(c, [a, b], as_tensor=True))
    strip = model.interpolate([a], [b], of="structure", steps=4, as_tensor=True)
    assert torch.equal(strip[0, [0, -1]], model.swap([a, b], a, as_tensor=True))
    assert len(model.interpolate(a, b, steps=5)[0]) == 5
    for wrong in ({"steps": 1}, {"steps": -2}, {"steps": 2.5}, {"of": "clothes"}):
        with pytest.raises(UserError):
            model.interpolate(a, b, **wrong)  # type: ignore[arg-type]


def test_one_photo_goes_against_many_in_an_interpolation(model: dgnet.Model, photos: list[Path]) -> None:
    a, b, c = photos[:3]
    strips = model.interpolate(a, [b, c], steps=3, as_tensor=True)
    assert torch.equal(strips[:, -1], model.swap(a, [b, c], as_tensor=True))
    strips = model.interpolate([a, b], c, "structure", fixed=b, steps=2, as_tensor=True)
    assert torch.equal(strips[:, 0], model.swap([a, b], b, as_tensor=True))
    with pytest.raises(UserError, match=r"^interpolate: 2 starts and 3 ends and 2 fixed; as many of each, or one"):
        model.interpolate([a, b], [a, b, c])


def test_pictures_of_nobody_are_refused(model: dgnet.Model, photos: list[Path]) -> None:
    for use, what in (
        (lambda: model.swap([], photos[0]), "structures"),
        (lambda: model.swap(photos[0], []), "appearances"),
        (lambda: model.grid(photos[0], []), "appearances"),
        (lambda: model.interpolate([], []), "starts"),
    ):
        with pytest.raises(UserError, match=f"^{what}: no photos are given$"):
            use()
    assert model.decode(*model.encode([])) == []


def test_codes_may_be_changed_and_those_of_another_shape_are_refused(model: dgnet.Model, photos: list[Path]) -> None:
    codes = model.encode(photos[:2])
    codes.appearance[0] = codes.appearance[1]
    assert torch.equal(model.decode(*codes, as_tensor=True), model.swap(photos[:2], photos[1], as_tensor=True))
    one = model.decode(codes.structure, codes.appearance[:1].double().numpy(), as_tensor=True)  # type: ignore[call-overload]
    assert torch.equal(one, model.decode(*codes, as_tensor=True))
    for wrong in (
        (codes.appearance, codes.structure),
        (codes.structure, codes.appearance[:, 1:]),
        (codes[0][0], codes[1][0]),
    ):
        with pytest.raises(UserError, match=r"^decode: codes of .*; \[N, 16, H/d, W/d\] and \[N, 256\] would be"):
            model.decode(*wrong)
    with pytest.raises(UserError, match=r"^decode: 2 structures and 3 appearances; as many"):
        model.decode(codes.structure, codes.appearance[[0, 0, 0]])


def test_codes_are_painted_as_they_were_read(model: dgnet.Model, photos: list[Path]) -> None:
    codes = model.encode(photos[:2])
    assert torch.equal(model.decode(*codes, as_tensor=True), model.swap(photos[:2], photos[:2], as_tensor=True))
    damaged = codes.appearance.clone()
    damaged[1] = torch.nan
    with pytest.raises(UserError, match=r"picture 1 \(counted from 0\) came out as NaN or infinity"):
        model.decode(codes.structure, damaged)


@pytest.mark.parametrize(
    "use",
    [
        lambda teacher, photo: teacher.swap(photo, photo),
        lambda teacher, photo: teacher.grid(photo, photo),
        lambda teacher, photo: teacher.interpolate(photo, photo),
        lambda teacher, photo: teacher.encode(photo),
    ],
)
def test_a_teacher_says_what_it_cannot_do(
    teacher: dgnet.Model, photos: list[Path], use: Callable[[dgnet.Model, Path], object]
) -> None:
    with pytest.raises(UserError, match=r"holds a teacher, which embeds and is evaluated; to .*, a DG-Net is needed"):
        use(teacher, photos[0])


# Keep


def test_what_is_saved_is_the_same_model(model: dgnet.Model, photos: list[Path], tmp_path: Path) -> None:
    again = dgnet.load(model.save(tmp_path / "copy.safetensors"), device="cpu")
    assert torch.equal(again.embed(photos), model.embed(photos))
    with pytest.raises(UserError, match=r"copy.pth: weights are written as .safetensors"):
        model.save(tmp_path / "copy.pth")


def test_the_examples_of_the_docstrings_run(
    runs: Path, people: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(runs)
    (tmp_path / "people").symlink_to(people)
    for name, photo in zip(("anna", "carl", "dora"), photos, strict=False):
        (tmp_path / f"{name}.jpg").write_bytes(photo.read_bytes())
    known = {"dgnet": dgnet, "model": dgnet.load("runs/joint", device="cpu")}
    failed, tried = doctest.testmod(face, extraglobs=known, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried >= 6
    assert not failed
