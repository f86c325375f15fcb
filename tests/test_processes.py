"""Work that the processes of `torchrun` share: the answers of one, and no silence where one fails or is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import processes as started
import pytest
from command import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgnet import config as configuration
from dgnet import processes
from dgnet.drawn.dataset import synthesize
from dgnet.models.dgnet import DGNet
from dgnet.weights.files import save_model


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(folder, identities=8, test_identities=4, images_per_camera=2, height=32, width=16)
    return folder


@pytest.fixture(scope="module")
def model(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = configuration.load("tiny", [f"data.root={people}", "evaluate.batch=3"])
    file = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_model(file, DGNet(config, 5), config, "joint", [*range(100, 105)])
    return file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(of=st.integers(0, 50), batch=st.integers(1, 9), several=st.integers(1, 6))
def test_shares_are_whole_batches_one_behind_the_other(
    of: int, batch: int, several: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    for number in range(several):
        monkeypatch.setattr(processes, "rank", lambda number=number: number)
        monkeypatch.setattr(processes, "count", lambda: several)
        shares.append(range(of)[processes.share(of, batch)])
    assert [place for share in shares for place in share] == list(range(of))
    assert all(share.start % batch == 0 for share in shares if share)
    sizes = [-(-len(share) // batch) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_two_processes_evaluate_as_one(model: Path, tmp_path: Path, run: Run) -> None:
    """Features to the last bit, and every figure."""
    one, two = (tmp_path / f"{name}.npz" for name in ("one", "two"))
    said = run("evaluate", model, "--device", "cpu", "--save-features", one, "--json", tmp_path / "one.json")
    assert said.code == 0
    ended = started.two_commands(
        ["evaluate", str(model), "--device", "cpu", "--save-features", str(two), "--json", str(tmp_path / "two.json")],
        tmp_path,
    )
    assert [code for code, _ in ended] == [0, 0], ended
    assert "mAP" in ended[0][1]
    assert ended[1][1] == ""
    with np.load(one) as ours, np.load(two) as theirs:
        assert ours.files == theirs.files
        for key in ours.files:
            np.testing.assert_array_equal(ours[key], theirs[key])
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((tmp_path / "two.json").read_text())


def test_two_processes_embed_as_one(model: Path, people: Path, tmp_path: Path, run: Run) -> None:
    one, two = (tmp_path / f"{name}.npz" for name in ("one", "two"))
    photos = str(people / "bounding_box_test")
    said = run("embed", model, photos, "--device", "cpu", "--out", one)
    ended = started.two_commands(["embed", str(model), photos, "--device", "cpu", "--out", str(two)], tmp_path)
    assert [code for code, _ in ended] == [0, 0], ended
    assert said.out.splitlines()[0] in ended[0][1]  # how many images of how many dimensions
    assert ended[1][1] == ""
    with np.load(one) as ours, np.load(two) as theirs:
        assert ours["names"].tolist() == theirs["names"].tolist()
        np.testing.assert_array_equal(ours["features"], theirs["features"])


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_photo_that_one_process_cannot_read_ends_both_or_is_left_out(
    which: str, model: Path, people: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    photos = sorted((people / "bounding_box_test").glob("*.jpg"))[:8]
    for photo in photos:
        (copy / photo.name).write_bytes(photo.read_bytes())
    bad = copy / (photos[0] if which == "first" else photos[-1]).name
    bad.write_bytes(bad.read_bytes()[:100])
    out = tmp_path / "out.npz"
    arguments = ["embed", str(model), str(copy), "--device", "cpu", "--out", str(out)]
    ended = started.two_commands(arguments, tmp_path)
    assert [code for code, _ in ended] == [2, 2], ended
    assert bad.name in ended[0][1].replace("\n", "")
    assert not out.exists()

    ended = started.two_commands([*arguments, "--on-unreadable", "skip"], tmp_path)
    assert [code for code, _ in ended] == [0, 0], ended
    assert "left out 1 of 8 images" in " ".join(ended[0][1].split())
    with np.load(out) as made:
        assert made["names"].tolist() == [str(copy / photo.name) for photo in photos if photo.name != bad.name]
        assert len(made["features"]) == 7


def test_a_process_that_is_lost_ends_the_other_with_a_line(model: Path, people: Path, tmp_path: Path) -> None:
    arguments = ["embed", str(model), str(people / "query"), "--device", "cpu", "--out", str(tmp_path / "out.npz")]
    (code, said), (killed, _) = started.two_commands(arguments, tmp_path, started.command_that_dies)
    assert killed == -9
    assert code == 2, said
    assert "error: another process is lost" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.npz").exists()
