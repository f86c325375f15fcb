"""What `dgnet evaluate` says of what it is asked for: by the command line, as a user would."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Run, Said
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgnet import config as configuration
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.evaluate.evaluation import evaluate
from dgnet.evaluate.results import load_results
from dgnet.models.dgnet import DGNet
from dgnet.retrieval.feature_sets import Features, FeatureSet, load_features
from dgnet.retrieval.scores import exact_products
from dgnet.weights.files import save_model


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In an empty folder, and what standard error says as one line."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Said:
        said = run(*arguments)
        return said._replace(err=" ".join(said.err.split()))

    return call


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=8, test_identities=3, images_per_camera=2, height=32, width=16)
    return folder


@pytest.fixture(scope="module")
def model(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = configuration.load("tiny", [f"data.root={people}", "data.cache=decoded"])
    file = tmp_path_factory.mktemp("run") / "model.safetensors"
    tested = sorted({int(path.name[:4]) for path in (people / "query").glob("*.jpg")})
    save_model(file, DGNet(config, 5), config, "joint", [*range(100, 103), *tested[:2]])
    return file


@pytest.mark.parametrize("what", ["pipe", "folder", "text", "one array"])
def test_what_is_no_archive_of_arrays_is_told_without_advice_to_unpickle_it(
    run: Run, tmp_path: Path, what: str
) -> None:
    file = tmp_path / "f.npz"
    {
        "pipe": lambda: os.mkfifo(file), "folder": file.mkdir, "text": lambda: file.write_text("query_features"),
        "one array": lambda: np.save(file.open("wb"), np.ones((2, 2))),
    }[what]()  # fmt: skip
    code, _, err = run("evaluate", "--features", file)
    assert code == 2
    assert f"{file}: not a readable .npz file of plain arrays (" in err
    assert "pickle" not in err


def test_features_that_are_zero_throughout_are_told(run: Run, tmp_path: Path) -> None:
    features_file(tmp_path / "f.npz", query_features=np.array([[0.0, 0, 0, 0], [1, 0, 0, 0]]))
    code, _, err = run("evaluate", "--features", "f.npz")
    assert code == 0
    assert err == "warning: f.npz: query: 1 of 2 features are zero throughout, and are like nothing"


def test_two_ids_that_are_one_number_are_asked_about(run: Run, tmp_path: Path) -> None:
    features_file(tmp_path / "f.npz", query_ids=np.array(["1e3", "2"]), gallery_ids=np.array(["1000", "2", "3", "2"]))
    code, _, err = run("evaluate", "--features", "f.npz")
    assert code == 2
    assert "are one number: one or two?" in err


def test_photos_in_the_querys_clothes_are_left_out_if_asked(run: Run, tmp_path: Path) -> None:
    """Query 1 of person 1 wears "a": its best answer does so, too, and the next is another person's."""
    near, nearer, far = [1.0, 0.2], [1.0, 0.0], [0.0, 1.0]
    np.savez(
        tmp_path / "f.npz", query_features=np.array([[1.0, 0.0]]), query_ids=np.array([1]), query_cameras=np.array([1]),
        gallery_features=np.array([nearer, near, far]), gallery_ids=np.array([1, 2, 1]),
        gallery_cameras=np.array([2, 2, 3]), query_clothes=np.array(["a"]), gallery_clothes=np.array(["a", "b", "b"]),
    )  # fmt: skip
    words = ("evaluate", "--features", "f.npz", "--ranks", 1, "--json", "out.json")
    for asked, first in (((), 1), (("--changed-clothes",), 2)):
        code, out, err = run(*words, *asked)
        assert code == 0
        assert ("same clothes left out" in " ".join(out.split())) == bool(asked)
        assert ("arrays that are not used: gallery_clothes, query_clothes" in err) == (not asked)
        assert load_results(tmp_path / "out.json").first_hit.tolist() == [first]
    code, _, err = run(*words, "--changed-clothes", "--save-features", "again.npz")
    assert load_features(tmp_path / "again.npz", changed_clothes=True).gallery.clothes is not None
    features_file(tmp_path / "f.npz")
    code, _, err = run(*words, "--changed-clothes")
    assert code == 2
    assert "the arrays query_clothes and gallery_clothes are needed" in err


def test_clothes_are_those_of_the_data_set(run: Run, model: Path, tmp_path: Path, people: Path) -> None:
    rows = ["path,identity,camera,split,clothes"]
    for split, folder, worn in (("query", "query", "red"), ("gallery", "bounding_box_test", "blue")):
        photos = sorted((people / folder).glob("0*.jpg"))
        rows += [f"{path},{path.name[:4]},{path.name[6]},{split},{worn}" for path in photos]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    (tmp_path / "same.csv").write_text("\n".join(rows).replace("blue", "red"))
    (tmp_path / "unknown.csv").write_text("\n".join(rows).replace("blue", "").replace("red", ""))
    words = ("evaluate", model, "--no-flip", "--ranks", 1, "--json", "out.json", "--data")
    for table, valid in (("all.csv", True), ("same.csv", False), ("unknown.csv", True)):
        code, _, err = run(*words, table, "--changed-clothes")
        assert code == 0
        assert (load_results(tmp_path / "out.json").valid_queries > 0) == valid
        assert ("or in its own clothes; without --changed-clothes those in other cameras count" in err) == (not valid)
    code, _, err = run(*words, people, "--changed-clothes")
    assert code == 2
    assert "does not say who wears what" in err


def features_file(path: Path, **arrays: object) -> Path:
    rng = np.random.default_rng(0)
    whole: dict[str, object] = {
        "query_features": rng.standard_normal((2, 4)), "query_ids": np.array([1, 2]), "query_cameras": np.array([1, 1]),
        "gallery_features": rng.standard_normal((4, 4)), "gallery_ids": np.array([1, 2, 3, 2]),
        "gallery_cameras": np.array([2, 2, 1, 3]),
    } | arrays  # fmt: skip
    np.savez(path, **{key: value for key, value in whole.items() if value is not None})  # type: ignore[arg-type]
    return path


# What does not go together


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--features f.npz --data people", "--features with --data"),
        ("--features f.npz --no-flip", "--features with --no-flip"),
        ("--features f.npz --holdout 0.5", "--features with --holdout"),
        ("--features f.npz --holdout 0", "--features with --holdout"),
        ("--features f.npz --cache c", "--features with --cache"),
        ("--features f.npz --on-unreadable skip", "--features with --on-unreadable"),
        ("m.safetensors --layout folders", "--layout: says how the folder of --data is laid out"),
        ("--compare a.json b.json --data people", "--compare with --data"),
        ("--compare a.json b.json --rerank", "--compare with --rerank"),
        ("--compare a.json b.json --json c.json", "--compare with --json"),
        ("m.safetensors --names a b", "--names: names the evaluations of --compare"),
        ("", "give one file of weights, or --features FILE.npz, or --compare"),
    ],
)
def test_what_does_not_apply_is_refused(run: Run, tmp_path: Path, words: str, says: str) -> None:
    code, _, err = run("evaluate", *words.split())
    assert code == 2
    assert says in err
    assert list(tmp_path.iterdir()) == []


# On whom


def test_people_that_were_trained_on_are_told(run: Run, model: Path, people: Path, tmp_path: Path) -> None:
    code, _, err = run("evaluate", model)
    assert code == 0
    assert "2 of the 3 people of this test were trained on" in err
    (tmp_path / "link").symlink_to(people)
    _, _, err = run("evaluate", model, "--data", "./link/")
    assert "2 of the 3 people of this test were trained on" in err  # the same folder by another name
    assert not (tmp_path / "decoded").exists()  # the training's cache is the training's
    other = tmp_path / "other"
    synthesize(other, identities=8, test_identities=3, images_per_camera=2, height=32, width=16)
    _, _, err = run("evaluate", model, "--data", other)
    assert "trained on" not in err  # other people, though their numbers are the same


def test_one_camera_is_told_and_can_be_ignored(run: Run, tmp_path: Path) -> None:
    one = {"query_cameras": np.array([1, 1]), "gallery_cameras": np.full(4, 1)}
    file = features_file(tmp_path / "f.npz", **one)
    code, _, err = run("evaluate", "--features", file)
    assert code == 0
    assert "all photos of its person were taken by its own camera, and are left out for it; --ignore-cameras" in err
    assert "same identities" not in err
    _, out, err = run("evaluate", "--features", file, "--ignore-cameras")
    assert err == ""
    assert "same camera kept (as asked)" in " ".join(out.split())
    nobody = features_file(tmp_path / "g.npz", gallery_ids=np.array([7, 8, 9, 9]))
    _, _, err = run("evaluate", "--features", nobody)
    assert "query and gallery show nobody in common" in err


def test_pairs_of_cameras_need_cameras(run: Run, tmp_path: Path) -> None:
    file = features_file(tmp_path / "f.npz")
    code, out, err = run("evaluate", "--features", file, "--camera-pairs", "--ignore-cameras")
    assert (code, out) == (2, "")
    assert "--camera-pairs with --ignore-cameras" in err
    unknown = features_file(tmp_path / "g.npz", query_cameras=None, gallery_cameras=None)
    code, out, err = run("evaluate", "--features", unknown, "--camera-pairs")
    assert (code, out) == (2, "")
    assert "--camera-pairs: the cameras of query or gallery are unknown" in err


def test_an_unreadable_photo_can_be_passed_over(run: Run, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    synthesize(folder, identities=8, test_identities=3, images_per_camera=2, height=32, width=16)
    damaged = sorted((folder / "bounding_box_test").glob("0*.jpg"))[-1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    code, _, err = run("evaluate", model, "--data", folder)
    assert code == 2
    assert damaged.name in err
    code, out, err = run("evaluate", model, "--data", folder, "--on-unreadable", "skip", "--cache", "mine")
    assert code == 0
    assert f"left out 1 of 114 images, which cannot be read: {damaged}" in err
    assert "unreadable photos left out 1" in " ".join(out.split())
    assert (tmp_path / "mine").is_dir()


def test_images_for_multi_query_evaluation_are_seen_only_for_it(run: Run, model: Path, tmp_path: Path) -> None:
    people = tmp_path / "people"
    synthesize(people, identities=8, test_identities=3, images_per_camera=2, height=32, width=16, seed=1)
    damaged = next((people / "gt_bbox").glob("*.jpg"))
    damaged.write_bytes(b"")
    code, out, _ = run("evaluate", model, "--data", people)
    assert code == 0
    assert "mAP" in out
    for asked in (["--multi-query", "mean"], ["--save-features", "f.npz"]):
        code, _, err = run("evaluate", model, "--data", people, *asked)
        assert code == 2
        assert damaged.name in err


def test_every_alpha_is_in_the_json(run: Run, model: Path, tmp_path: Path) -> None:
    run("evaluate", model, "--json", "all.json", "--alphas", "0.5", "2", "-1")
    read = json.loads((tmp_path / "all.json").read_text())
    assert [one["protocol"]["alpha"] for one in (read, *read["others"])] == [0.5, 2, -1]


def test_weights_that_give_nan_are_told(run: Run, people: Path, tmp_path: Path) -> None:
    config = configuration.load("tiny", [f"data.root={people}"])
    net = DGNet(config, 5)
    net.appearance.heads[0].reduce.weight.data[0, 0] = torch.nan
    save_model(tmp_path / "model.safetensors", net, config, "joint", [])
    code, _, err = run("evaluate", "model.safetensors")
    assert code == 2
    assert "NaN or infinity in appearance.heads.0.reduce.weight" in err


def test_a_photo_whose_feature_is_not_finite_is_named(run: Run, people: Path, tmp_path: Path) -> None:
    config = configuration.load("tiny", [f"data.root={people}"])
    net = DGNet(config, 5)
    for weight in net.appearance.heads.parameters():
        weight.data.fill_(3e38)  # finite, so it is no damage; what it gives is
    save_model(tmp_path / "model.safetensors", net, config, "joint", [])
    code, _, err = run("evaluate", "model.safetensors")
    assert code == 2
    assert f"{sorted((people / 'query').iterdir())[0]}: the network's feature of it holds NaN or infinity" in err


# Words for people and cameras


def test_words_are_as_good_as_numbers(tmp_path: Path) -> None:
    numbers = load_features(features_file(tmp_path / "n.npz"))
    words = load_features(
        features_file(
            tmp_path / "w.npz",
            query_ids=np.array(["anna", "ben"]), gallery_ids=np.array(["anna", "ben", "carl", "ben"]),
            query_cameras=np.array(["north"] * 2), gallery_cameras=np.array(["south", "south", "north", "east"]),
        )
    )  # fmt: skip
    assert evaluate(words, alpha=None).figures() == evaluate(numbers, alpha=None).figures()
    pairs = evaluate(words, alpha=None, camera_pairs=True).camera_pairs
    assert pairs is not None
    assert {(pair.query_camera, pair.gallery_camera) for pair in pairs} == {("north", "south"), ("north", "east")}


def test_numbers_written_as_words_or_floats_keep_their_value(tmp_path: Path) -> None:
    read = load_features(
        features_file(
            tmp_path / "f.npz", query_ids=np.array(["1", "2"]), gallery_ids=np.array([1.0, 2.0, -1.0, 0.0]),
            query_cameras=np.array([b"1", b"1"]),
        )
    )  # fmt: skip
    assert read.query.identities.tolist() == [1, 2]
    assert read.gallery.identities.tolist() == [1, 2, -1, 0]
    assert read.query.cameras.tolist() == [1, 1]
    for spelling in (["01", "2.0"], [" 1", "+2 "]):
        again = load_features(features_file(tmp_path / "s.npz", query_ids=np.array(spelling)))
        assert again.label_hash() == load_features(features_file(tmp_path / "p.npz")).label_hash()
    composed = load_features(
        features_file(
            tmp_path / "c.npz",
            query_ids=np.array(["a\u0308", "b"]),
            gallery_ids=np.array(["\u00e4", "b ", "01", "JUNK"]),
        )
    )
    assert composed.query.identities.tolist() == composed.gallery.identities[:2].tolist()
    assert composed.gallery.identities[3] == -1
    junk = load_features(features_file(tmp_path / "j.npz", gallery_ids=np.array(["1", "junk", "distractor", "2"])))
    assert junk.gallery.identities.tolist() == [1, -1, 0, 2]


# Files of features


@pytest.mark.parametrize("kind", [">f4", ">f8", "<f2", "longdouble"])
def test_floats_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    plain = load_features(features_file(tmp_path / "p.npz"))
    names = ("query_features", "gallery_features")
    values = dict(zip(names, (np.asarray(part.features, kind) for _, part in plain.parts()), strict=True))
    read = load_features(features_file(tmp_path / "f.npz", **values))
    assert evaluate(read, alpha=None).first_hit.tolist() == evaluate(plain, alpha=None).first_hit.tolist()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"query_features": np.zeros((2, 0))}, "query: features have shape [2, 0]"),
        ({"query_features": np.array([["a", "b"]] * 2)}, "features are of type <U1"),
        ({"query_ids": np.array([1.5, 2])}, "ids are not whole numbers"),
        ({"query_ids": np.array([np.nan, 2])}, "ids are not whole numbers"),
        ({"query_ids": np.array([2**63, 1], np.uint64)}, "numbers below"),
        ({"query_ids": np.array([1e300, 2])}, "as float64, numbers below 9007199254740992 are needed"),
        ({"query_ids": np.array([4097, 2], np.float16)}, "as float16, numbers below 2048 are needed"),
        ({"query_ids": np.array(["", "2"])}, "ids hold '' at place 0"),
        ({"query_ids": np.array(["1", "nan"])}, "ids hold 'nan' at place 1"),
        ({"query_features": np.full((2, 4), np.longdouble("1e400"))}, "contains NaN or infinity"),
        ({"query_features": np.ones((2, 4), complex)}, "features are of type complex128"),
        ({"query_ids": np.array([[1], [2]])}, "ids have shape [2, 1]"),
        ({"query_ids": np.array([True, False])}, "of type bool"),
        ({"query_cameras": np.array([b"\xff", b"a"])}, "bytes that are no UTF-8"),
        ({"gallery_ids": None}, "array 'gallery_ids' is missing"),
        ({"gallery_features": np.array([[np.inf] * 4] * 4)}, "contains NaN or infinity"),
    ],
)
def test_what_is_wrong_with_features_is_one_line(
    run: Run, tmp_path: Path, arrays: dict[str, object], says: str
) -> None:
    file = features_file(tmp_path / "f.npz", **arrays)
    code, _, err = run("evaluate", "--features", file)
    assert code == 2
    assert err.startswith(f"error: {file}: ")
    assert says in err


def test_features_too_long_for_their_squares(tmp_path: Path) -> None:
    values = np.array([[1e25, 0, 0, 0], [0, 1e25, 0, 0]], np.float32)
    labels = np.array([1, 2])
    found = FeatureSet(Features(values, labels, labels), Features(values, labels, labels + 5))
    assert evaluate(found, alpha=None).mAP_standard == 1
    with pytest.raises(UserError, match=r"squared distances exceed torch\.float32"):
        evaluate(found, alpha=None, metric="euclidean")


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-40, 1e-25, 1e20, 1e25, 1e150, 1e300])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_features_of_any_length_give_their_figure_or_an_error(scale: float, kind: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(1, 6), 5)
    values = rng.standard_normal((6, 8))[people] + 0.8 * rng.standard_normal((25, 8))

    def scaled(by: float) -> FeatureSet | None:
        with np.errstate(over="ignore"):
            features = (values * by).astype(kind)
        if not np.isfinite(features).all() or not (np.abs(features) > np.finfo(kind).smallest_subnormal * 2**12).all():
            return None  # the type itself cannot hold them
        part = Features(features, people, np.full(25, -1))
        return FeatureSet(part.subset(np.arange(0, 25, 5)), part.subset(np.flatnonzero(np.arange(25) % 5)))

    plain, asked = scaled(1), scaled(scale)
    if plain is None or asked is None:
        return
    assert evaluate(asked, alpha=None).figures() == evaluate(plain, alpha=None).figures()
    assert evaluate(asked, alpha=0.5).figures() == evaluate(plain, alpha=0.5).figures()
    with suppress(UserError):
        found = evaluate(asked, alpha=None, metric="euclidean")
        assert found.figures() == evaluate(plain, alpha=None, metric="euclidean").figures()


def test_double_queries_beyond_the_gallerys_float32_are_told() -> None:
    labels = np.array([1, 2])
    query = Features(np.eye(2) * 1e100, labels, labels)
    with pytest.raises(UserError, match="too large for those of the gallery"):
        evaluate(FeatureSet(query, Features(np.eye(2, dtype=np.float32), labels, labels + 5)))


def test_arrays_that_are_not_used_are_told(run: Run, tmp_path: Path) -> None:
    file = features_file(tmp_path / "f.npz", query_cameras=None, query_camids=np.array([1, 1]))
    code, _, err = run("evaluate", "--features", file)
    assert code == 0
    assert "arrays that are not used: query_camids" in err
    assert "cameras of query or gallery alone: nothing can be left out" in err


@pytest.mark.parametrize("compressed", [False, True])
def test_a_zip_of_anything_else(run: Run, tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "f.npz", other=np.zeros(3))
    code, _, err = run("evaluate", "--features", "f.npz")
    assert code == 2
    assert "array 'query_features' is missing (found: none of the expected arrays)" in err


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3), st.floats(0, 1), st.booleans()
)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    tmp_path: Path, compressed: bool, changes: list[tuple[float, int]], cut: float, whole: bool
) -> None:
    good = features_file(tmp_path / "good.npz")
    if compressed:
        with np.load(good) as arrays:
            np.savez_compressed(good, **arrays)
    before = load_features(good)
    data = bytearray(good.read_bytes())
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "damaged.npz"
    path.write_bytes(bytes(data if whole else data[: int(cut * len(data))]))
    try:
        read = load_features(path)
    except UserError as error:
        said = str(error)
    else:
        said = str(path)
        assert read.feature_hash() == before.feature_hash()  # what is read is what was written: zips have checksums
        assert read.label_hash() == before.label_hash()
    assert said.startswith(str(path))
    assert "\n" not in said


# Precision


def test_exact_products_leave_torch_as_it_was() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with exact_products():
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
        query = Features(np.eye(4, dtype=np.float32), np.arange(1, 5), np.full(4, 1))
        assert evaluate(FeatureSet(query, Features(query.features, query.identities, query.cameras + 1))).rank[1] == 1
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before
