from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from dgnet.drawn import dataset as synthetic
from dgnet.drawn.dataset import Factors, load_factors, swap_truth, synthesize
from dgnet.drawn.render import Appearance, Camera, Structure, expose, render
from dgnet.drawn.walker import COLOURS
from dgnet.errors import UserError

SMALL = {
    "identities": 6, "test_identities": 3, "cameras": 3, "images_per_camera": 2,
    "distractors": 4, "junk": 2, "multi_query": 1, "height": 64, "width": 32,
}  # fmt: skip
CLEAN = Camera(quality=95)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(folder, seed=3, **SMALL)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def colour_at(image: NDArray[np.uint8], row: float, column: float) -> NDArray[np.floating]:
    """Mean colour, 0..1, around a place given in shares of height and width."""
    r, c = int(row * image.shape[0]), int(column * image.shape[1])
    return image[r - 2 : r + 3, c - 2 : c + 3].reshape(-1, 3).mean(0) / 255


def looks_like(colour: NDArray[np.floating], name: str) -> bool:
    """Whether no colour of the palette is nearer in hue, with brightness and shading left out."""

    def hue(c: NDArray[np.floating]) -> NDArray[np.floating]:
        return c.reshape(3) / np.linalg.norm(c)

    nearest = min(("red", "green", "sky", "yellow"), key=lambda n: float(np.linalg.norm(hue(COLOURS[n]) - hue(colour))))
    return nearest == name


@pytest.mark.parametrize("size", [(32, 16), (64, 32), (128, 64), (256, 128), (97, 41)])
def test_render_is_a_pure_function_at_any_size(size: tuple[int, int]) -> None:
    structure = Structure(phase=0.3, view=40, seed=5, camera=Camera(noise=0.02, blur=0.5))
    image = render(Appearance(), structure, *size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, render(Appearance(), structure, *size))
    assert not np.array_equal(image, render(Appearance(), replace(structure, seed=6), *size))
    assert not np.array_equal(image, render(Appearance(), replace(structure, phase=0.5), *size))


def test_what_is_visible_depends_on_the_viewpoint() -> None:
    who = Appearance(upper="green", pattern="jacket", second="yellow", bag="backpack", bag_colour="red")
    front, back = (expose(who, Structure(view=view, camera=CLEAN)) for view in (0, 180))
    assert looks_like(colour_at(front, 0.4, 0.5), "yellow")  # the shirt below the open jacket
    assert looks_like(colour_at(back, 0.35, 0.5), "red")  # the backpack


def test_the_body_hides_what_is_behind_it() -> None:
    """The bag hangs at the left hip: before the body when walking to the left, behind it when walking to the right."""
    who = Appearance(upper="green", lower="black", bag="shoulder", bag_colour="red")

    def bag(view: float) -> int:
        image = expose(who, Structure(view=view, camera=CLEAN)).astype(int)
        return int((image[60:80, :, 0] > 2 * image[60:80, :, 1]).sum())

    assert bag(270) > 4 * bag(90) > 0


def test_factors_round_trip_through_json() -> None:
    for value in (
        Appearance(bag="shoulder"),
        Structure(view=33.3, camera=Camera(cast=(0.9, 1.0, 1.1)), occluder="bin"),
    ):
        adapter = TypeAdapter(type(value))
        assert adapter.validate_json(adapter.dump_json(value)) == value


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "again", seed=3, **SMALL)
    assert files(tmp_path / "again") == files(small)
    synthesize(tmp_path / "other", seed=4, **SMALL)
    assert files(tmp_path / "other") != files(small)


def test_layout_and_names(small: Path) -> None:
    factors = load_factors(small)
    assert set(files(small)) == {"factors.json", *factors.images}
    counts = Counter(name.split("/")[0] for name in factors.images)
    # 3 people x 3 cameras x 2 images each side; gallery + 4 distractors + 2 junk; one query and one more image each
    assert counts == {"bounding_box_train": 18, "bounding_box_test": 24, "query": 9, "gt_bbox": 18}

    def identities(folder: str) -> Counter[str]:
        found = Counter()
        for name in factors.images:
            place, file = name.split("/")
            match = re.fullmatch(r"(-1|\d{4})_c([1-3])s1_\d{6}_0[01]\.jpg", file)
            assert match, name
            if place == folder:
                found[match[1]] += 1
        return found

    train, gallery, query = map(identities, ("bounding_box_train", "bounding_box_test", "query"))
    assert len(train) == 3
    assert gallery.pop("0000") == 4
    assert gallery.pop("-1") == 2
    assert set(gallery) == set(query) == set(identities("gt_bbox"))
    assert not set(train) & set(gallery)
    assert set(query.values()) == {3}
    assert len({factors.people[person] for person in (*train, *gallery)}) == 6


def test_factors_reproduce_every_image(small: Path) -> None:
    factors = load_factors(small)
    for name in factors.images:
        stored = np.asarray(Image.open(small / name)).astype(float)
        made = swap_truth(factors, small / name, name)
        assert made.shape == stored.shape == (64, 32, 3)
        assert ((made - stored) ** 2).mean() < 1  # PSNR > 48 dB; bit-equal with the same JPEG decoder


def test_swap_truth_wears_the_partners_clothes() -> None:
    people = {"0001": Appearance(upper="red", lower="black"), "0002": Appearance(upper="sky", lower="black")}
    images = {
        "query/a.jpg": synthetic.Sighting("0001", Structure(view=0)),
        "query/b.jpg": synthetic.Sighting("0002", Structure(view=180)),
    }
    factors = Factors(1, {"height": 128, "width": 64}, "", people, images)
    assert looks_like(colour_at(swap_truth(factors, "query/a.jpg", "query/a.jpg"), 0.35, 0.5), "red")
    swapped = swap_truth(factors, "query/a.jpg", "/any/where/query/b.jpg")
    assert looks_like(colour_at(swapped, 0.35, 0.5), "sky")
    np.testing.assert_array_equal(swapped, render(people["0002"], Structure(view=0)))
    with pytest.raises(UserError, match=r"c\.jpg"):
        factors.structure("query/c.jpg")


def histograms(pixels: NDArray[np.uint8], bins: tuple[int, int, int]) -> NDArray[np.floating]:
    """Colour histograms [N, cells] of images [N, H, W, 3]; each sums to 1."""
    cells = np.ravel_multi_index(tuple(np.moveaxis(pixels * np.array(bins) // 256, -1, 0)), bins)
    counts = np.stack([np.bincount(image.ravel(), minlength=math.prod(bins)) for image in cells])
    return counts / counts.sum(1, keepdims=True)


def rank1(distance: NDArray[np.floating], query: NDArray[np.str_], gallery: NDArray[np.str_]) -> float:
    """Share of queries whose nearest gallery image of another camera is the right person. Labels: identity, camera."""
    nearest = np.where(query[:, None, 1] == gallery[None, :, 1], np.inf, distance).argmin(1)
    return float((gallery[nearest, 0] == query[:, 0]).mean())


def test_rank1_by_hand() -> None:
    query, gallery = np.array([["1", "c1"], ["2", "c2"]]), np.array([["1", "c1"], ["1", "c2"], ["2", "c1"]])
    distance = np.array([[0.0, 0.9, 0.5], [0.3, 0.1, 0.2]])  # first: only [0, 1] counts; second: 0.2 beats 0.3
    assert rank1(distance, query, gallery) == 1.0
    assert rank1(distance[:, ::-1], query, gallery) == 0.5


@pytest.mark.parametrize("seed", [0, 1])
def test_colour_histograms_alone_do_not_find_people(tmp_path: Path, seed: int) -> None:
    """With query and gallery of the default size, the demo's, and of the gallery only the other cameras."""
    folder = tmp_path / "set"
    factors = synthesize(folder, seed=seed, identities=31, multi_query=0, height=64, width=32)
    places = ("query/", "bounding_box_test/")
    names = [[name for name in factors.images if name.startswith(place) and "/-1" not in name] for place in places]
    labels = [np.array([Path(name).name.split("_")[:2] for name in some]) for some in names]
    found = []
    for space in ("RGB", "HSV"):
        pixels = [np.stack([np.asarray(Image.open(folder / name).convert(space)) for name in some]) for some in names]
        for bins in ((4, 4, 4), (8, 4, 4), (8, 8, 8)):
            query, gallery = (histograms(some, bins) for some in pixels)
            l1 = np.stack([np.abs(gallery - one).sum(1) for one in query])
            cosine = -query @ gallery.T / np.linalg.norm(gallery, axis=1)
            found += [rank1(distance, *labels) for distance in (l1, cosine)]
    assert 0.1 < max(found) < 0.6  # chance is 1 in 30


def test_reuses_the_same_set_and_refuses_any_other(small: Path, tmp_path: Path) -> None:
    before = files(small)
    assert synthesize(small, seed=3, **SMALL) == load_factors(small)
    with pytest.raises(UserError, match="not empty"):
        synthesize(small, seed=4, **SMALL)
    assert files(small) == before

    target = tmp_path / "set"
    target.mkdir()
    factors = synthesize(target, seed=3, **SMALL)  # an empty folder is fine
    one = target / next(iter(factors.images))
    one.write_bytes(one.read_bytes()[:-9])
    with pytest.raises(UserError, match="not empty"):
        synthesize(target, seed=3, **SMALL)

    one.unlink()
    with pytest.raises(UserError, match="not empty"):
        synthesize(target, seed=3, **SMALL)

    (tmp_path / "file").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        synthesize(tmp_path / "file", **SMALL)
    with pytest.raises(UserError, match="cannot be made"):
        synthesize(tmp_path / "file" / "set", **SMALL)

    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not empty"):
        synthesize(tmp_path / "notes", seed=3, **SMALL)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def die_later(*args: object) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return b"x"

    monkeypatch.setattr(synthetic, "jpeg", die_later)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"), [("cameras", 1), ("height", 0), ("identities", 1), ("test_identities", 6), ("seed", -1)]
)
def test_numbers_out_of_range_are_named(tmp_path: Path, key: str, value: int) -> None:
    with pytest.raises(UserError, match=key):
        synthesize(tmp_path / "set", **{**SMALL, key: value})
    assert list(tmp_path.iterdir()) == []


def test_damaged_factors_are_named(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"factors\.json"):
        load_factors(tmp_path)
    text = (small / "factors.json").read_text()
    (tmp_path / "factors.json").write_text(text.replace('"sleeves":"', '"sleeves":"very-', 1))
    with pytest.raises(UserError, match="sleeves"):
        load_factors(tmp_path)


def test_with_several_outfits_the_gallery_shows_others_than_the_query(small: Path, tmp_path: Path) -> None:
    plain, changed = load_factors(small), synthesize(tmp_path / "changed", seed=3, outfits=2, **SMALL)
    body = ("skin", "hair", "hair_style", "build")
    assert list(changed.images) == list(plain.images)
    worn: dict[tuple[str, str], set[str]] = {}
    for path, seen in changed.images.items():
        before = plain.images[path]
        assert seen.structure == before.structure  # the same cameras and walks
        split, person = path.split("/")[0], Path(path).name[:4]
        worn.setdefault((split, person), set()).add(seen.person)
        if not before.person.startswith("distractor"):
            a, b = changed.people[seen.person], plain.people[before.person]
            assert [getattr(a, part) for part in body] == [getattr(b, part) for part in body]
    test = {person for split, person in worn if split == "query"}
    for person in test:
        assert worn["query", person] == {person}
        assert worn["bounding_box_test", person] == {f"{person}-outfit-2"}
    for split, person in worn:
        if split == "bounding_box_train":
            assert worn[split, person] == {person, f"{person}-outfit-2"}
    first, second = (changed.people[name] for name in ("0001", "0001-outfit-2"))
    assert (first.upper, first.lower, first.shoes, first.pattern) != (
        second.upper, second.lower, second.shoes, second.pattern
    )  # fmt: skip


def test_a_set_that_is_older_than_outfits_is_reused(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, folder := tmp_path / "old")
    told = json.loads((folder / "factors.json").read_text())
    assert told["recipe"].pop("outfits") == 1
    (folder / "factors.json").write_text(json.dumps(told))
    assert synthesize(folder, seed=3, **SMALL).digest == told["digest"]
    with pytest.raises(UserError, match="drawn with outfits = 1, not 2"):
        synthesize(folder, seed=3, outfits=2, **SMALL)
