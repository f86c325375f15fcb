"""The words of the command line: in any order, printed as they are, written to whatever a path leads to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dgnet import cli, console
from dgnet.cli.app import at_home, in_order
from dgnet.errors import UserError, nearest
from dgnet.files import expanded, replacing


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (
            "train teacher run --config tiny a.b=1 --resume c.d=2",
            "train teacher run a.b=1 c.d=2 --config tiny --resume yes",
        ),
        ("train joint --teacher t.pt run a.b=1 --teacher=u", "train joint run a.b=1 --teacher t.pt --teacher=u"),
        ("demo a.b=1 --identities 9", "demo demo a.b=1 --identities 9"),
        ("demo here --identities 9 a.b=1", "demo here a.b=1 --identities 9"),
        ("config a.b=1", "config market1501 a.b=1"),
        ("config --explain data.root", "config --explain data.root"),
        ("config --explain loss data --x", "config --explain loss data --x"),
        ("config tiny --explain loss data a.b=1", "config tiny a.b=1 --explain loss data"),
        ("weights import x --out y --overrides a.b=1", "weights import x --out y --overrides a.b=1"),
        ("data check a.b=1", "data check a.b=1"),
        ("", ""),
    ],
)
def test_overrides_may_stand_anywhere(given: str, ordered: str) -> None:
    assert in_order(given.split()) == ordered.split()


def test_an_override_with_blanks_stays_whole() -> None:
    words = ["train", "teacher", "run", "--config", "tiny", "data.root=a b\nc"]
    assert in_order(words) == ["train", "teacher", "run", "data.root=a b\nc", "--config", "tiny"]


def test_nothing_from_outside_is_markup(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "[red]a[/red] :smile: [/] [link=x]b"
    console.notice(odd)
    console.warn(odd)
    console.failed(odd)
    console.stdout.print(console.table(odd, [odd], [[odd]]))
    said = capsys.readouterr()
    assert said.err == f"{odd}\nwarning: {odd}\nerror: {odd}\n"
    assert said.out.count("[red]a[/red] :smile: [/] [link=x]b") == 3


@pytest.mark.parametrize("name", ["[bold]x", ":smile:", "[/]", "a\udcffb"])
def test_a_path_that_looks_like_markup_is_told_as_it_is(name: str, tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "dgnet", "data", "check", os.fsencode(str(tmp_path / name))]
    done = subprocess.run(asked, capture_output=True)
    shown = name.replace("\udcff", r"\udcff")
    assert done.returncode == 2
    assert f"error: data folder {tmp_path}/{shown} does not exist" in done.stderr.decode()


@pytest.mark.parametrize("words", [["data", "check", "~nosuchuser/x"], ["config", "~nosuchuser/x.yaml"]])
def test_the_home_of_nobody(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert "no home folder of that user is known" in capsys.readouterr().err


def test_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("~", "HOME"),
        ("~/x y.jpg", "HOME/x y.jpg"),
        ("--json=~/x.json", "HOME/x.json"),
        ("~backup.jpg", "~backup.jpg"),
        ("a~/b", "a~/b"),
        ("data.root=~/x", "data.root=~/x"),  # expanded where the configuration is used, and written as it was given
        ("--json=x", "--json=x"),
    ],
)
def test_home_is_found_in_every_word(word: str, meant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home(word).removeprefix("--json=") == meant.replace("HOME", str(tmp_path)).removeprefix("--json=")
    assert at_home(word).startswith("--json=") == word.startswith("--json=")


def test_the_nearest_word_is_found() -> None:
    assert nearest("half_bach", ["iterations", "half_batch"]) == "half_batch"
    assert nearest("zzz", ["iterations", "half_batch"]) is None


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    shown = subprocess.run(
        f"{sys.executable} -m dgnet config | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert (shown.stdout, shown.stderr) == ("data:\n", "")


# Whatever a path leads to


def written(path: Path, text: str = "new") -> None:
    with replacing(path) as part:
        part.write_text(text)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real" / "file.json"
    real.parent.mkdir()
    real.write_text("old")
    (tmp_path / "link.json").symlink_to(real)
    written(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert real.read_text() == "new"
    assert [path.name for path in real.parent.iterdir()] == ["file.json"]


def test_a_link_to_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "later.json")
    written(tmp_path / "link.json")
    assert (tmp_path / "later.json").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    written(pipe)
    reader.join(10)
    assert read == ["new"]
    assert pipe.is_fifo()


def test_a_device_is_written_into() -> None:
    written(Path(os.devnull))
    assert not Path(os.devnull).is_file()


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path}: a folder; the name of a file to write is needed$"):
        written(tmp_path)


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out" / "file.txt"

    def fail() -> None:
        with replacing(target) as part:
            part.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list((tmp_path / "out").iterdir()) == []
