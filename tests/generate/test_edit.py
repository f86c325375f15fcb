"""Generated pictures: what goes where, equal to decoding by hand; folders that can be repeated and continued."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dgnet.config import load
from dgnet.errors import UserError
from dgnet.generate import edit
from dgnet.generate.dataset import folder
from dgnet.images import sheets
from dgnet.images.transforms import denormalise, normalise
from dgnet.models.dgnet import DGNet

torch.set_num_threads(1)
SIZE = {"height": 32, "width": 16}


@pytest.fixture(scope="module", params=["gray", "edge"])
def net(request: pytest.FixtureRequest) -> DGNet:
    torch.manual_seed(0)
    return DGNet(load("tiny", [f"model.structure.input={request.param}"]), 5)


@pytest.fixture(scope="module")
def photos() -> Tensor:
    coarse = torch.rand(6, 3, 4, 2, generator=torch.Generator().manual_seed(1))
    blocks = torch.nn.functional.interpolate(coarse, (32, 16))  # with edges to be seen
    return (blocks * 255).byte().permute(0, 2, 3, 1).contiguous()


def by_hand(net: DGNet, structure: Tensor, appearance: Tensor) -> Tensor:
    """One picture from two photos [H, W, 3], with nothing but the networks."""
    net.eval()
    with torch.no_grad():
        seen = net.structure_of(normalise(structure[None]))
        code = net.appearance.pool(normalise(appearance[None]))[0]
        return (denormalise(net.decode(net.structure(seen), code))[0] * 255).round().byte().permute(1, 2, 0)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal up to rounding at half a gray level: batches of other sizes are summed in another order."""
    return a.shape == b.shape and int((a.int() - b.int()).abs().max()) <= 1


def paths_of(folder: Path, photos: Tensor) -> list[Path]:
    paths = [folder / f"{number:04d}.png" for number in range(len(photos))]
    for path, photo in zip(paths, photos.numpy(), strict=True):
        sheets.save(path, photo)
    return paths


def test_grid_has_appearance_down_and_structure_across(net: DGNet, photos: Tensor) -> None:
    cells = edit.grid(net, photos[:1], photos[3:6], batch=2)
    assert cells.shape == (3, 1, 32, 16, 3)
    assert cells.dtype == torch.uint8
    assert not same(cells[0], cells[1])
    for j in range(3):
        assert same(cells[j, 0], by_hand(net, photos[0], photos[3 + j]))


def test_grid_of_several_structures(photos: Tensor) -> None:
    net = DGNet(load("tiny"), 5)
    cells = edit.grid(net, photos[:3], photos[3:5], batch=2)
    assert cells.shape == (2, 3, 32, 16, 3)
    for j in range(2):
        for i in range(3):
            assert same(cells[j, i], by_hand(net, photos[i], photos[3 + j]))


def test_swap_is_a_grid_without_its_diagonal(photos: Tensor) -> None:
    net = DGNet(load("tiny"), 5)
    in_b, in_a = edit.swap(net, photos[:2], photos[2:4])
    for i in range(2):
        assert same(in_b[i], by_hand(net, photos[i], photos[2 + i]))
        assert same(in_a[i], by_hand(net, photos[2 + i], photos[i]))


def test_interpolated_appearance_ends_at_the_two_photos(net: DGNet, photos: Tensor) -> None:
    strips = edit.interpolate_appearance(net, photos[:1], photos[2:3], photos[4:5], steps=5)
    assert strips.shape == (1, 5, 32, 16, 3)
    assert same(strips[0, 0], by_hand(net, photos[0], photos[2]))
    assert same(strips[0, -1], by_hand(net, photos[0], photos[4]))
    assert not same(strips[0, 2], strips[0, 0])


def test_interpolated_structure_ends_at_the_two_photos(net: DGNet, photos: Tensor) -> None:
    strips = edit.interpolate_structure(net, photos[:1], photos[2:3], photos[4:5], steps=2)
    assert same(strips[0, 0], by_hand(net, photos[2], photos[0]))
    assert same(strips[0, 1], by_hand(net, photos[4], photos[0]))


def test_the_middle_of_an_interpolation_is_the_mean_of_the_codes(photos: Tensor) -> None:
    net = DGNet(load("tiny"), 5)
    strips = edit.interpolate_appearance(net, photos[:2], photos[2:4], photos[4:6], steps=3)
    s = edit.structure_codes(net, photos[:2])
    f = (edit.appearance_codes(net, photos[2:4]) + edit.appearance_codes(net, photos[4:6])) / 2
    assert same(strips[:, 1], edit.paint(net, s, f))


def test_one_step_is_no_interpolation(net: DGNet, photos: Tensor) -> None:
    with pytest.raises(UserError, match="1 steps of interpolation: at least 2"):
        edit.interpolate_appearance(net, photos[:1], photos[1:2], photos[2:3], steps=1)


def test_a_network_in_training_is_left_in_training_and_untouched(photos: Tensor) -> None:
    net = DGNet(load("tiny"), 5).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    in_training = edit.grid(net, photos[:2], photos[2:4])
    assert net.decoder.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(in_training, edit.grid(net.eval(), photos[:2], photos[2:4]))


def test_photos_are_read_at_any_size(tmp_path: Path) -> None:
    Image.new("L", (50, 70), 128).save(tmp_path / "gray.png")
    assert edit.read([tmp_path / "gray.png"], 32, 16).tolist() == [[[[128] * 3] * 16] * 32]
    with pytest.raises(UserError, match=r"none\.png"):
        edit.read([tmp_path / "none.png"], 32, 16)


def test_folder_says_where_every_picture_comes_from(photos: Tensor, tmp_path: Path) -> None:
    net = DGNet(load("tiny"), 5)
    paths = paths_of(tmp_path / "in", photos)

    folder(net, paths, tmp_path / "out", **SIZE, seed=3, weights="abc", batch=4)

    note = json.loads((tmp_path / "out/provenance.json").read_text())
    assert (note["seed"], note["weights"]) == (3, "abc")
    assert sorted(note["images"]) == [path.name for path in paths]
    for i, path in enumerate(paths):
        source = note["images"][path.name]
        assert source["appearance"] == str(path)
        other = paths.index(Path(source["structure"]))
        assert other != i
        made = torch.from_numpy(np.array(Image.open(tmp_path / "out" / path.name)))
        assert same(made, by_hand(net, photos[other], photos[i]))


@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_keeps_the_own_structure(photos: Tensor, tmp_path: Path, seed: int) -> None:
    paths = paths_of(tmp_path / "in", photos[:2])
    folder(DGNet(load("tiny"), 5), paths, tmp_path / "out", **SIZE, seed=seed)
    note = json.loads((tmp_path / "out/provenance.json").read_text())
    assert [note["images"][path.name]["structure"] for path in paths] == [str(paths[1]), str(paths[0])]


def test_folder_is_decided_by_its_seed(net: DGNet, photos: Tensor, tmp_path: Path) -> None:
    paths = paths_of(tmp_path / "in", photos)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder(net, paths, tmp_path / name, **SIZE, seed=seed)
    a, b, c = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b
    assert a != c


def test_an_interrupted_folder_is_continued(photos: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, out = DGNet(load("tiny"), 5), tmp_path / "out"
    paths = paths_of(tmp_path / "in", photos)
    folder(net, paths, out, **SIZE, batch=2)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    (out / "0003.png").unlink()
    (out / ".0003.png.77.part").write_bytes(b"half")
    written: list[str] = []
    save = sheets.save
    monkeypatch.setattr(sheets, "save", lambda path, pixels: (written.append(path.name), save(path, pixels)))

    folder(net, paths, out, **SIZE, batch=2)

    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole
    assert written == ["0002.png", "0003.png"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"weights": "other"}, {"suffix": ".jpg"}])
def test_a_folder_of_something_else_is_refused(photos: Tensor, tmp_path: Path, change: dict[str, object]) -> None:
    net, out = DGNet(load("tiny"), 5), tmp_path / "out"
    paths = paths_of(tmp_path / "in", photos[:2])
    folder(net, paths, out, **SIZE)
    before = sorted(out.iterdir())
    with pytest.raises(UserError, match="give a new folder"):
        folder(net, paths, out, **(SIZE | change))
    with pytest.raises(UserError, match="in: not empty"):
        folder(net, paths, tmp_path / "in", **SIZE)
    assert sorted(out.iterdir()) == before


def test_photos_of_one_name_do_not_overwrite_each_other(photos: Tensor, tmp_path: Path) -> None:
    paths = paths_of(tmp_path / "one", photos[:2]) + paths_of(tmp_path / "two", photos[:2])
    folder(DGNet(load("tiny"), 5), paths, tmp_path / "out", **SIZE, suffix=".jpg")
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 4


def test_a_set_of_one_photo_is_refused(photos: Tensor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 images to generate from: a set of at least 2"):
        folder(DGNet(load("tiny"), 5), paths_of(tmp_path, photos[:1]), tmp_path / "out", **SIZE)
    assert not (tmp_path / "out").exists()
