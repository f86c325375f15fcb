"""The command line: what every command leaves behind, and the one line that it says to what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import Run
from PIL import Image

from dgnet import __version__, config
from dgnet.drawn.dataset import synthesize
from dgnet.errors import UserError
from dgnet.images import sheets
from dgnet.models.dgnet import DGNet
from dgnet.models.teacher import build_baseline
from dgnet.train import checkpoint
from dgnet.weights import files as weights
from dgnet.weights import published

TINY = ("--config", "tiny", "--device", "cpu")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "people"
    synthesize(
        folder,
        identities=7,
        test_identities=3,
        cameras=2,
        images_per_camera=2,
        distractors=1,
        junk=1,
        height=32,
        width=16,
    )
    return folder


@pytest.fixture(scope="module")
def files(people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained weights for `people`, and for others."""
    folder, tiny = tmp_path_factory.mktemp("files"), config.load("tiny", [f"data.root={people}"])
    trained_on = sorted({int(path.name[:4]) for path in (people / "bounding_box_train").glob("*.jpg")})
    torch.manual_seed(0)
    made = {name: folder / f"{name}.safetensors" for name in ("model", "homeless", "teacher", "five", "others")}
    weights.save_model(made["model"], DGNet(tiny, 4), tiny, "joint", trained_on)
    weights.save_model(made["homeless"], DGNet(tiny, 4), config.load("tiny"), "joint", trained_on)
    weights.save_model(made["teacher"], build_baseline(tiny, 4), tiny, "teacher", trained_on)
    weights.save_model(made["five"], build_baseline(tiny, 5), tiny, "teacher", [1, 2, 3, 4, 5])
    weights.save_model(made["others"], build_baseline(tiny, 4), tiny, "teacher", [91, 92, 93, 94])
    return made


@pytest.fixture
def photos(people: Path) -> list[Path]:
    return sorted((people / "query").glob("*.jpg"))


# Every command at work


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("search", "MODEL PHOTO"), ("same", "MODEL PHOTO PHOTO"), ("embed", "MODEL"), ("calibrate", "MODEL"),
        ("export", "MODEL"), ("serve", "MODEL"), ("generate swap", "MODEL OUT"), ("generate grid", "MODEL OUT"),
        ("generate interpolate", "MODEL OUT"), ("generate folder", "MODEL OUT"), ("generate dataset", "MODEL OUT"),
        ("train teacher", "RUN"), ("train joint", "RUN"),
    ],
)  # fmt: skip
def test_help_says_what_comes_first(run: Run, command: str, usage: str) -> None:
    """And not `PATH PATH`, whose order is anybody's guess."""
    first = run(*command.split(), "--help").out.split("\n\n")[0]
    assert f"] {usage}" in " ".join(first.split()), first


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"dgnet {__version__}\n", "")
    for words in ((), ("--help",), ("train", "joint", "--help")):
        assert "usage: dgnet" in run(*words).out
    assert run("train", "jiont").code == 2


def test_config_prints_what_it_can_read_again(run: Run, tmp_path: Path) -> None:
    said = run("config", "tiny", "train.iterations=9", "loss.cycle=0.25")
    assert (said.code, said.err) == (0, "")
    assert yaml.safe_load(said.out)["loss"]["cycle"] == 0.25
    (tmp_path / "own.yaml").write_text(said.out)
    assert run("config", tmp_path / "own.yaml").out == said.out


def test_a_data_set_is_drawn_and_checked(run: Run, tmp_path: Path) -> None:
    size = ("--identities", 4, "--test-identities", 2, "--cameras", 2, "--images-per-camera", 2, "--distractors", 0,
            "--junk", 0, "--height", 32, "--width", 16)  # fmt: skip
    said = run("data", "synthesize", tmp_path / "people", *size)
    count = len(list((tmp_path / "people").rglob("*.jpg")))
    assert (said.code, said.out) == (0, f"{count} images of 4 people in {tmp_path / 'people'}\n")
    looked = run(
        "data", "check", tmp_path / "people", "--cache", tmp_path / "cache", "--json", tmp_path / "x" / "check.json"
    )
    assert looked.code == 0, looked
    assert json.loads((tmp_path / "x" / "check.json").read_text())
    broken = next((tmp_path / "people" / "query").glob("*.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    looked = run("data", "check", tmp_path / "people", "--cache", tmp_path / "cache")
    assert looked.code == 1
    assert broken.name in looked.out


def test_both_trainings_then_the_evaluation(run: Run, people: Path, tmp_path: Path) -> None:
    said = run("train", "teacher", tmp_path / "t", f"data.root={people}", "teacher.epochs=1", *TINY)
    teacher = tmp_path / "t" / "teacher.safetensors"
    assert (said.code, said.out) == (0, f"written: {teacher}\n")
    said = run(
        "train", "joint", tmp_path / "j", "--teacher", teacher, f"data.root={people}", "train.iterations=2", *TINY
    )
    model = tmp_path / "j" / "model.safetensors"
    assert (said.code, said.out) == (0, f"written: {model}\n")
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "checkpoints", "config.yaml", "log.jsonl", "model.safetensors",
    ]  # fmt: skip
    for file, name in ((model, "ours"), (teacher, "theirs")):  # both know where their data are
        said = run("evaluate", file, "--json", tmp_path / f"{name}.json", "--camera-pairs", "--device", "cpu")
        assert said.code == 0, said
        assert said.out.count("queries with an answer / all") == {"ours": 3, "theirs": 1}[name]
        assert json.loads((tmp_path / f"{name}.json").read_text())["provenance"]["data"] == str(people)
    compared = run("evaluate", "--compare", tmp_path / "theirs.json", tmp_path / "ours.json")
    assert compared.code == 0
    assert "rank-1" in compared.out


def test_features_of_any_toolkit_are_scored(run: Run, tmp_path: Path) -> None:
    """Two queries: the first finds its person first; the second only after a wrong answer, so its AP is a half."""
    axis = np.eye(4, dtype=np.float32)
    np.savez(
        tmp_path / "theirs.npz",
        query_features=axis[:2], query_ids=[1, 2], query_cameras=[1, 1],
        gallery_features=[axis[0], axis[1], axis[1] + axis[2]], gallery_ids=[1, 3, 2], gallery_cameras=[2, 2, 2],
    )  # fmt: skip
    said = run("evaluate", "--features", tmp_path / "theirs.npz", "--json", tmp_path / "scores.json")
    assert said.code == 0, said
    scores = json.loads((tmp_path / "scores.json").read_text())["figures"]
    assert (scores["rank1"], scores["rank5"], scores["mAP_standard"]) == (0.5, 1, 0.75)
    halves = run("evaluate", "--features", tmp_path / "theirs.npz", "--alphas", 0.5, -1)
    titles = [line for line in halves.out.splitlines() if line.startswith("theirs")]
    assert titles == ["theirs, alpha 0.5", "theirs, alpha -1"]
    saved = tmp_path / "again.npz"
    assert run("evaluate", "--features", tmp_path / "theirs.npz", "--save-features", saved).code == 0
    assert np.array_equal(np.load(saved)["gallery_ids"], [1, 3, 2])


def test_pictures(run: Run, files: dict[str, Path], photos: list[Path], tmp_path: Path) -> None:
    def size(rows: int, columns: int, **sides: np.ndarray) -> tuple[int, int]:
        height, width = sheets.sheet(np.zeros((rows, columns, 32, 16, 3), np.uint8), **sides).shape[:2]
        return width, height

    of_model = ("--device", "cpu", files["model"])
    three, one = np.zeros((3, 32, 16, 3), np.uint8), np.zeros((1, 32, 16, 3), np.uint8)
    out = tmp_path / "grid.png"
    said = run("generate", "grid", *of_model, out, "--structures", *photos[:3], "--appearances", photos[3])
    assert said == (0, f"written: {out}\n", "")
    assert Image.open(out).size == size(1, 3, top=three, left=one)

    out = tmp_path / "swap.jpg"
    assert run("generate", "swap", *of_model, out, "--images", *photos[:4]).code == 0
    assert Image.open(out).size == size(2, 4)
    assert run("generate", "swap", *of_model, out, "--scale", 4, "--images", *photos[:4]).code == 0
    assert Image.open(out).size == tuple(4 * edge for edge in size(2, 4))

    ends = ("--start", photos[0], "--end", photos[1], "--steps", 3)
    for of in ("appearance", "structure"):
        strip, moving = tmp_path / f"{of}.png", tmp_path / f"{of}.gif"
        assert run("generate", "interpolate", *of_model, strip, *ends, "--of", of).code == 0
        assert Image.open(strip).size == size(1, 3)
        assert run("generate", "interpolate", *of_model, moving, *ends, "--of", of, "--fixed", photos[2]).code == 0
        with Image.open(moving) as frames:
            assert (frames.size, frames.n_frames) == (size(1, 1), 4)  # there and back

    out = tmp_path / "folder"
    assert run("generate", "folder", *of_model, out, "--images", photos[0].parent, "--seed", 3).code == 0
    assert len(list(out.glob("*.png"))) == len(photos)
    assert json.loads((out / "provenance.json").read_text())["seed"] == 3


def test_a_published_teacher_is_imported(run: Run, files: dict[str, Path], people: Path, tmp_path: Path) -> None:
    tiny = config.load("tiny", ["teacher.backbone=resnet50", "teacher.backbone_width=64", "teacher.head_width=512"])
    torch.manual_seed(0)
    torch.save(published.to_published("teacher", build_baseline(tiny, 4).state_dict()), tmp_path / "net_last.pth")
    out = tmp_path / "imported.safetensors"
    said = run("weights", "import", tmp_path / "net_last.pth", "--out", out)
    assert said.code == 0, said
    assert weights.load_teacher(out).net.head.classify.out_features == 4


# What is given is wrong


def test_the_program_itself_is_quick_to_refuse() -> None:
    """In a process of its own: exit code 2, one line, and no torch, which takes seconds to import."""
    asked = [sys.executable, "-X", "importtime", "-m", "dgnet", "config", "tiny", "train.iteration=5"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=300, check=False)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert (done.returncode, done.stdout) == (2, "")
    assert said == ["error: tiny: unknown key train.iteration; did you mean train.iterations?"]
    assert " tyro\n" in done.stderr
    assert " torch\n" not in done.stderr


@pytest.mark.parametrize("training", ["teacher", "joint"])
def test_data_that_cannot_be_used(
    refused: Callable[..., str], files: dict[str, Path], people: Path, tmp_path: Path, training: str
) -> None:
    run_folder = tmp_path / "run"

    def said(data: Path | str, *more: object) -> str:
        given = () if training == "teacher" else ("--teacher", files["teacher"])
        message = refused("train", training, run_folder, f"data.root={data}", *more, *TINY, *given)
        assert not run_folder.exists()
        return message

    assert said("''") == "data.root is empty: say where the data set is, as data.root=FOLDER"
    assert said(tmp_path / "missing") == f"data folder {tmp_path / 'missing'} does not exist"
    (tmp_path / "empty").mkdir()
    assert "cannot be told: name it" in said(tmp_path / "empty")
    assert "it is empty" in said(tmp_path / "empty")

    copy = tmp_path / "copy"
    shutil.copytree(people, copy)
    first = min((copy / "bounding_box_train").glob("*.jpg"))
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    assert said(copy).startswith(f"{first}: truncated or not an image")
    first.write_bytes(whole)
    stranger = first.rename(first.with_name("anna.jpg"))
    assert f"{stranger} is not named like 0002_c1s1_000451_03.jpg" in said(copy)
    stranger.unlink()
    assert "do not fill a batch of 16" in said(copy, "train.half_batch=16", "teacher.batch=16")

    for other in (copy / "bounding_box_train").glob("*.jpg"):
        if other.name[:4] != first.name[:4]:
            other.unlink()
    assert "training images of 1 identity: two or more are needed" in said(copy)


def test_a_truncated_image_is_skipped_if_asked(run: Run, files: dict[str, Path], people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "copy")
    first = min((tmp_path / "copy" / "bounding_box_train").glob("*.jpg"))
    first.write_bytes(first.read_bytes()[:300])
    said = run("train", "joint", tmp_path / "run", "--teacher", files["teacher"], f"data.root={tmp_path / 'copy'}",
               "train.iterations=1", "data.on_unreadable=skip", *TINY)  # fmt: skip
    assert said.code == 0, said
    assert f"left out 1 of 16 images, which cannot be read: {first}" in said.err


WRONG_VALUES = {
    "train.iteration=5": "tiny: unknown key train.iteration; did you mean train.iterations?",
    "loss.warm_up.begin=5": "tiny: unknown key loss.warm_up.begin; known here: start, per_iteration",
    "los.image=5": "tiny: unknown key los; did you mean loss?",
    "data.erasing=1.5": "tiny: data.erasing = 1.5: input should be less than or equal to 1",
    "train.half_batch=0": "tiny: train.half_batch = 0: input should be greater than or equal to 1",
    "train.seed=-1": "tiny: train.seed = -1: input should be greater than or equal to 0",
    "data.height=30": "tiny: data.height = 30: input should be a multiple of 4",
    "loss.image=much": "tiny: loss.image = 'much': input should be a valid number, unable to parse string as a number",
    "loss.image=.nan": "tiny: loss.image = nan: input should be a finite number",
    "train.precision=half": "tiny: train.precision = 'half': input should be 'float32', 'bfloat16' or 'float16'",
    "loss.perceptual=1": "tiny: loss.perceptual is on: loss.perceptual_weights must name VGG-16 weights (file or URL)",
    "iterations": "override 'iterations': write it as key.path=value, for example train.iterations=1000",
    "data.root.x=1": "override 'data.root.x=1': root is a value, not a group of keys",
    "loss.image=[1": "override 'loss.image=[1': '[1' is not a YAML value",
}


@pytest.mark.parametrize("override", WRONG_VALUES)
def test_wrong_keys_and_values(refused: Callable[..., str], people: Path, tmp_path: Path, override: str) -> None:
    given = (f"data.root={people}", override, *TINY)
    assert refused("train", "teacher", tmp_path / "run", *given) == WRONG_VALUES[override]
    assert not (tmp_path / "run").exists()


def test_wrong_configuration_files(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    assert refused("config", path).startswith(f"{path}: neither a preset (")
    path.write_text("train: {iterations: 5\n")
    assert refused("config", path).startswith(f"{path}: not YAML: ")
    path.write_text("- 5\n")
    assert refused("config", path) == f"{path}: expected groups of keys (data, model, loss, ...), found list"
    path.write_text("train: {half_bacth: 5}\n")
    assert refused("config", path) == f"{path}: unknown key train.half_bacth; did you mean train.half_batch?"


def test_teachers_that_do_not_fit(
    refused: Callable[..., str], files: dict[str, Path], people: Path, tmp_path: Path
) -> None:
    run_folder = tmp_path / "run"

    def said(*given: object) -> str:
        message = refused("train", "joint", run_folder, f"data.root={people}", *given, *TINY)
        assert not run_folder.exists()
        return message

    assert said().startswith("loss.teacher is on: give --teacher FILE")
    assert said("loss.teacher=0", "model.appearance.weights=teacher").startswith(
        "model.appearance.weights = teacher: give"
    )
    missing = tmp_path / "no.safetensors"
    assert said("--teacher", missing) == f"{missing}: no such file"
    assert said("--teacher", files["model"]).startswith(
        f"{files['model']}: holds a DG-Net (model.safetensors); a teacher"
    )
    assert said("--teacher", files["five"]) == (
        f"{files['five']}: a teacher of 5 identities; the training set has 4: train the teacher on the same set"
    )
    assert "a teacher of other identities than the training set's" in said("--teacher", files["others"])
    assert "five.safetensors" in said("--teacher", files["teacher"], "--teacher", files["five"])
    (tmp_path / "cut.safetensors").write_bytes(files["teacher"].read_bytes()[:5000])
    assert "damaged, or not a safetensors file" in said("--teacher", tmp_path / "cut.safetensors")
    # Networks and weights that don't fit together: found before anything is written.
    fits = ("--teacher", files["teacher"])
    assert said("model.decoder.residual_blocks=3", *fits).startswith("model.decoder.residual_blocks = 3: must divide")
    assert "no such file" in said("model.appearance.weights=missing.pth", *fits)
    assert "retrain the teacher with teacher.backbone=resnet18 teacher.backbone_width=4" in said(
        "model.appearance.weights=teacher", "model.appearance.backbone_width=4", *fits
    )
    assert said("loss.perceptual=1", "loss.perceptual_weights=vgg.pth", *fits).startswith(
        "weights 'vgg.pth': no such file"
    )


def test_runs_that_cannot_be_begun_or_resumed(
    refused: Callable[..., str], run: Run, files: dict[str, Path], people: Path, tmp_path: Path
) -> None:
    folder, missing = tmp_path / "run", tmp_path / "missing"
    begin = (
        "train",
        "joint",
        folder,
        "--teacher",
        files["teacher"],
        f"data.root={people}",
        "train.iterations=1",
        *TINY,
    )
    assert run(*begin).code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert refused(*begin) == f"{folder}: holds a run already; continue it with --resume, or name another folder"
    assert refused("train", "joint", missing, "--resume") == f"{missing}: no run to resume here (no config.yaml)"
    assert refused("train", "joint", folder, "--resume", "--config", "tiny") == (
        f"--config tiny: a resumed run keeps its own, {folder}/config.yaml; leave --config out"
    )
    assert refused("train", "joint", folder, "loss.image=3", "--resume") == (
        f"{folder}: was started with loss.image = 5.0, not 3.0; it cannot change midway"
    )
    assert refused("train", "joint", folder, "loss.imag=3", "--resume").endswith("did you mean loss.image?")
    assert "training images = 16 of 4 people" in refused(
        "train", "joint", folder, f"data.root={fewer(people, tmp_path)}", "--resume"
    )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    damaged = checkpoint.in_folder(folder / "checkpoints")
    for path in damaged:
        path.write_bytes(b"nothing")
    assert "holds no whole checkpoint; start a new run folder" in refused("train", "joint", folder, "--resume")

    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(*begin[:2], tmp_path / "file", *begin[3:])


def fewer(people: Path, folder: Path) -> Path:
    shutil.copytree(people, folder / "fewer")
    min((folder / "fewer" / "bounding_box_train").glob("*.jpg")).unlink()
    return folder / "fewer"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("generate folder M out --images P --seed -1", "seed = -1: 0 or more would be right"),
        ("generate dataset M out --data D --per-identity 1 --seed -1", "seed = -1: 0 or more would be right"),
        ("generate grid M out.png --structures A --appearances A --border -1", "border = -1: 0 or more would be right"),
        ("generate grid M out --structures A --appearances A --labels", "--labels means nothing there"),
        ("generate grid M out --structures A --appearances A --border 3", "--border means nothing there"),
        ("calibrate M --data D --far 0.1 --seed -1 --out out.safetensors", "seed = -1: 0 or more would be right"),
        ("calibrate M --data D --far 0.1 --draws 0 --out out.safetensors", "draws = 0: 1 or more would be right"),
        ("calibrate M --data D --far 0.1 --out out.txt", "out.txt: weights are written as .safetensors"),
        ("search M A P --sheet out.pdf", "out.pdf: pictures are written as .png or .jpg"),
        ("weights import --out out", "give the folder of a published run"),
    ],
)
def test_numbers_and_endings_that_mean_nothing_are_one_line_and_leave_nothing(
    people: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, words: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = people / "query"
    named = {"M": "drawn", "D": people, "P": photos, "A": min(photos.glob("*.jpg"))}
    code, _, err = run(*(named.get(word, word) for word in words.split()))
    assert code == 2
    assert told in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_photos_of_one_name_are_all_kept(people: Path, tmp_path: Path, run: Run) -> None:
    one, other = sorted((people / "query").glob("*.jpg"))[:2]
    for folder, photo in (("a", one), ("b", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0001.jpg").write_bytes(photo.read_bytes())
    both = (tmp_path / "a" / "0001.jpg", tmp_path / "b" / "0001.jpg")
    assert run("generate", "grid", "drawn", tmp_path / "out", "--structures", *both, "--appearances", one).code == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{k:03d}_0001_in_{one.stem}.png" for k in (0, 1)]


def test_an_empty_word_is_no_folder(tmp_path: Path, run: Run) -> None:
    code, _, err = run("data", "check", "")
    assert code == 2
    assert err.startswith("error: an empty word is given: a variable of the shell that is not set?")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(
    refused: Callable[..., str], files: dict[str, Path], people: Path, tmp_path: Path
) -> None:
    message = "--device cuda: not available here; use auto, cpu, cuda or cuda:N"
    given = (f"data.root={people}", "--config", "tiny", "--device", "cuda")
    assert refused("train", "teacher", tmp_path / "run", *given) == message
    assert refused("evaluate", files["model"], "--device", "cuda") == message
    assert not (tmp_path / "run").exists()


def test_evaluations_of_what_cannot_be_evaluated(
    refused: Callable[..., str], files: dict[str, Path], people: Path, tmp_path: Path
) -> None:
    model, missing = files["model"], tmp_path / "missing"
    assert refused("evaluate").startswith("evaluate: give one file of weights, or --features")
    assert refused("evaluate", model, files["teacher"]).startswith("evaluate: give one file of weights")
    assert refused("evaluate", missing) == f"{missing}: no such file"
    assert refused("evaluate", next(people.glob("query/*.jpg"))).endswith("not a safetensors file (Error while "
                   "deserializing header: header too large)")  # fmt: skip
    assert refused("evaluate", files["homeless"]) == "data.root is empty: say where the data set is, as --data FOLDER"
    assert refused("evaluate", model, "--data", missing) == f"data folder {missing} does not exist"
    assert "unknown layout 'market'" in refused("evaluate", model, "--data", people, "--layout", "market")
    assert "have no fine-grained half" in refused("evaluate", files["teacher"], "--alphas", "0.5")
    assert refused("evaluate", "--features", missing) == f"{missing}: no such file"
    (tmp_path / "theirs.npz").write_bytes(b"PK nothing")
    assert "not a readable .npz file" in refused("evaluate", "--features", tmp_path / "theirs.npz")
    assert refused("evaluate", "--compare", missing, missing) == f"{missing}: no such file"
    (tmp_path / "half.json").write_text("{")
    assert "not the JSON of an evaluation" in refused("evaluate", "--compare", tmp_path / "half.json", missing)
    assert not (tmp_path / "out.json").exists()


def test_pictures_that_cannot_be_made(
    refused: Callable[..., str], files: dict[str, Path], photos: list[Path], tmp_path: Path
) -> None:
    out, model = tmp_path / "out" / "picture.png", files["model"]
    two = ("--images", *photos[:2])
    assert "holds a teacher" in refused("generate", "swap", files["teacher"], out, *two)
    assert refused("generate", "swap", model, out, "--images", *photos[:3]).startswith(
        "--images: 3 given; two for each"
    )
    missing = tmp_path / "missing.jpg"
    assert refused("generate", "swap", model, out, "--images", photos[0], missing) == f"{missing}: no such image file"
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photos[0].read_bytes()[:300])
    said = refused("generate", "grid", model, out, "--structures", cut, "--appearances", photos[0])
    assert said.startswith(f"{cut}: truncated or not an image")
    said = refused("generate", "swap", model, out.with_suffix(".bmp"), *two)
    assert said == f"{out.with_suffix('.bmp')}: pictures are written as .png or .jpg"
    ends = ("--start", photos[0], "--end", photos[1], "--of", "appearance")
    assert "at least 2" in refused("generate", "interpolate", model, out, *ends, "--steps", 1)
    empty = tmp_path / "nothing"
    assert refused("generate", "folder", model, out.parent, "--images", empty) == f"{empty}: no such folder of images"
    empty.mkdir()
    assert refused("generate", "folder", model, out.parent, "--images", empty).startswith("0 images to generate from")
    assert not out.parent.exists()
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused("generate", "swap", model, tmp_path / "file" / "x.png", *two)


def test_data_sets_that_cannot_be_drawn_or_checked(refused: Callable[..., str], people: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert str(tmp_path / "full") in refused("data", "synthesize", tmp_path / "full")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    assert "identities" in refused("data", "synthesize", tmp_path / "new", "--identities", 1)
    assert not (tmp_path / "new").exists()
    assert refused("data", "check", tmp_path / "new") == f"data folder {tmp_path / 'new'} does not exist"


def test_weights_that_cannot_be_imported(refused: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    assert (
        refused("weights", "import", tmp_path / "missing", "--out", out)
        == f"{tmp_path / 'missing'}: no such file or folder"
    )
    (tmp_path / "empty").mkdir()
    assert "no gen_*.pt, id_*.pt and dis_*.pt there" in refused("weights", "import", tmp_path / "empty", "--out", out)
    (tmp_path / "net_last.pth").write_bytes(b"nothing")
    assert "damaged, or not a PyTorch file" in refused("weights", "import", tmp_path / "net_last.pth", "--out", out)
    torch.save({"bad": Path("/tmp")}, tmp_path / "net_last.pth")
    assert "refused, since it wants to call" in refused("weights", "import", tmp_path / "net_last.pth", "--out", out)
    assert not out.exists()


def test_a_full_disk_is_one_line_too(refused: Callable[..., str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/there/picture.png")

    monkeypatch.setattr(config, "load", full)
    assert refused("config", "tiny") == "/there/picture.png: No space left on device"

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(config, "load", pressed)
    assert run("config", "tiny") == (130, "", "interrupted\n")

    def says(*_: object, **__: object) -> None:
        raise UserError("[red]brackets[/red] are not markup")

    monkeypatch.setattr(config, "load", says)
    assert refused("config", "tiny") == "[red]brackets[/red] are not markup"
