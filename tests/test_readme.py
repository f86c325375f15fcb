"""What the documents say holds: commands parse, keys and files and functions exist, examples run, tables agree."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tyro
import yaml
from PIL import Image
from torch.distributed.run import get_args_parser

import dgnet
from dgnet import cli, config
from dgnet.cli.app import in_order
from dgnet.drawn.dataset import synthesize
from dgnet.models.dgnet import DGNet
from dgnet.retrieval.feature_sets import load_features
from dgnet.study.plan import read_study
from dgnet.train.schedule import loss_weights
from dgnet.weights.files import save_model

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "dgnet"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEY = re.compile(rf"(?:{'|'.join(config.to_dict(config.Config()))})(?:\.\w+)+(?:=.*)?")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


class Block(NamedTuple):
    document: Path
    language: str
    text: str


def blocks(document: Path, *languages: str) -> list[Block]:
    return [Block(document, *found) for found in BLOCK.findall(document.read_text()) if found[0] in languages]


def prose(document: Path) -> str:
    return BLOCK.sub("", document.read_text())


def inline(document: Path) -> list[str]:
    """What stands between backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", prose(document))


def lines(document: Path) -> Iterator[str]:
    """The command lines of a document's blocks."""
    for block in blocks(document, "", "bash"):
        yield from block.text.replace("\\\n", " ").splitlines()


COMMANDS = [
    pytest.param(shlex.split(command[1], comments=True), id=f"{document.name}: {command[0]}")
    for document in DOCUMENTS
    for line in lines(document)
    if (command := re.fullmatch(r"(?:dgnet|\S.* -m dgnet) (.*)", line))
]


def recording(app: tyro.extras.SubcommandApp) -> tyro.extras.SubcommandApp:
    """The same command line, whose functions return their name and arguments instead of doing anything."""
    copy = tyro.extras.SubcommandApp()
    for name, spec in app._subcommands.items():
        target = spec.target
        copy.command(recording(target) if isinstance(target, tyro.extras.SubcommandApp) else noting(target), name=name)
    return copy


def noting(function: Any) -> Any:
    @functools.wraps(function)
    def note(**given: Any) -> tuple[str, dict[str, Any]]:
        return function.__name__, given

    return note


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("arguments", COMMANDS)
def test_command_parses(arguments: list[str]) -> None:
    command, given = recording(cli.app.app).cli(args=in_order(arguments))
    base = given.get("config", given.get("preset", "demo" if command == "demo" else "market1501"))
    config.load(base if base in config.presets() else "market1501", given.get("overrides", ()))


def test_the_files_for_clusters_are_whole_and_start_what_there_is() -> None:
    """Slurm's as bash reads it, Kubernetes' as YAML: what stands behind torchrun is a command of dgnet."""
    page = ROOT / "docs" / "many-gpus.md"
    (slurm,), (kubernetes,) = blocks(page, "sh"), blocks(page, "yml")
    checked = subprocess.run(["bash", "-n"], input=slurm.text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    (started,) = (line for line in slurm.text.replace("\\\n", " ").splitlines() if line.startswith("srun "))
    service, job = yaml.safe_load_all(kubernetes.text)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert service["metadata"]["name"] == pod["subdomain"] == service["spec"]["selector"]["job-name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for words in (shlex.split(started.partition("||")[0]), container["command"]):
        torchrun = words[words.index("torchrun") + 1 : words.index("dgnet") + 1]
        assert get_args_parser().parse_args(torchrun).training_script == "dgnet"
        name, given = recording(cli.app.app).cli(args=in_order(words[words.index("dgnet") + 1 :]))
        assert (name, given["resume"]) == ("joint", "auto")
        config.load("market1501", given["overrides"])


def test_a_wrong_command_is_noticed() -> None:
    with pytest.raises(SystemExit):
        recording(cli.app.app).cli(args=["train", "joint", "runs/joint", "--teachers", "a"], console_outputs=False)


@each_document
def test_commands_in_the_text_exist(document: Path) -> None:
    for code in inline(document):
        at: Any = cli.app.app
        for word in code.split()[1:] if code.startswith("dgnet ") else ():
            if isinstance(at, tyro.extras.SubcommandApp) and not word.startswith("-"):
                assert word in at._subcommands, code
                at = at._subcommands[word].target


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for code in [*lines(document), *inline(document)]:
        if code.startswith("make "):
            assert code.split()[1] in targets, code


@each_document
def test_keys_exist(document: Path, tmp_path: Path) -> None:
    known = config.to_dict(config.Config())
    for code in inline(document):
        if KEY.fullmatch(code) and not code.endswith((".safetensors", ".py")):
            functools.reduce(lambda tree, part: tree[part], code.partition("=")[0].split("."), known)
            config.load("market1501", [code] if "=" in code else [])
    for number, block in enumerate(blocks(document, "yaml")):
        if "rows" in (tree := yaml.safe_load(block.text)):  # a study's table
            (file := tmp_path / f"{number}.yaml").write_text(block.text)
            read_study(file)
        else:
            config.from_dict(tree, document.name)


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", prose(document)):
        assert target.startswith("https://") or (document.parent / target).is_file(), target


@each_document
def test_files_exist(document: Path) -> None:
    for code in inline(document):
        ours = re.match(r"(src|tests|tools|docs|benchmarks|\.ci)/", code)
        if ours or code in ("pyproject.toml", "requirements.lock"):
            assert (ROOT / code).exists(), code
        elif re.fullmatch(r"[\w/]+\.py", code):
            assert (PACKAGE / code).exists(), code


@each_document
def test_names_can_be_imported(document: Path) -> None:
    for name in re.findall(r"`(dgnet(?:\.\w+)+)`", prose(document)):
        find(name)
    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dgnet"):
                for alias in node.names:
                    find(f"{node.module}.{alias.name}")


def find(name: str) -> Any:
    """The module, class, function or method of this name; raises ImportError or AttributeError."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[count:], module)
    raise ImportError(name)


def test_every_preset_is_named_where_presets_are_explained() -> None:
    named = re.findall(r"`([\w-]+)`", (ROOT / "docs" / "getting-started.md").read_text().split("## Configuration")[1])
    assert set(config.presets()) <= set(named)


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for document in DOCUMENTS for extra in re.findall(r"(?:\.|dgnet)\[(\w+)\]", document.read_text())}
    assert named
    assert named <= extras.keys()


def test_the_map_names_every_file() -> None:
    (text,) = (block.text for block in blocks(ROOT / "docs" / "design.md", "") if block.text.startswith("src/dgnet/"))
    folder, named = Path(), set()
    for line in text.splitlines()[1:]:
        if inner := re.fullmatch(r"  ([\w/]+)/( .*)?", line):
            folder = Path(inner[1])
        elif files := re.match(r"( +)((?:\w+\.\w+(?:, )?)+)", line):
            named |= {(folder if len(files[1]) == 4 else Path()) / name for name in files[2].split(", ")}
    there = {
        path.relative_to(PACKAGE) for pattern in ("*.py", "*.css", "*.html", "*.js") for path in PACKAGE.rglob(pattern)
    }
    assert named == {path for path in there if not path.name.startswith("__")}


# Examples


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("anna.jpg", "carl.jpg"):
        Image.fromarray(np.random.default_rng(len(name)).integers(256, size=(40, 20, 3), dtype=np.uint8)).save(name)
    (example,) = blocks(ROOT / "README.md", "python")
    known: dict[str, Any] = {}
    exec(compile(example.text, "README.md", "exec"), known)
    assert known["carl_as_anna"].shape == (1, 128, 64, 3)
    assert known["alike"].shape == (1, 1)
    assert Path("anna_as_carl.png").is_file()


def test_the_example_of_foreign_features_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = (b for b in blocks(ROOT / "docs" / "recipes.md", "python") if "savez" in b.text)
    exec(compile(example.text, "recipes.md", "exec"), {})
    found = load_features(Path("theirs.npz"))
    assert (len(found.query), len(found.gallery)) == (2, 4)
    assert (found.gallery.cameras != -1).all()


def test_the_example_of_a_model_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = config.load("tiny")
    save_model(tmp_path / "runs" / "market" / "joint" / "model.safetensors", DGNet(tiny, 3).eval(), tiny, "joint", [])
    synthesize(tmp_path / "shop", identities=4, test_identities=2, images_per_camera=2, height=32, width=16)
    people = sorted((tmp_path / "shop" / "query").glob("*.jpg"))
    for name, photo in zip(("anna", "carl", "dora"), people, strict=False):
        shutil.copy(photo, tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    (example,) = (b for b in blocks(ROOT / "docs" / "recipes.md", "python") if "model.decode" in b.text)
    frame = np.zeros((60, 80, 3), np.uint8)
    known: dict[str, Any] = {"photos": people[0].parent, "frame": frame, "boxes": [[1, 2, 30, 50], [40, 0, 99, 60]]}
    exec(compile(example.text.replace("/data/shop", "shop"), "recipes.md", "exec"), known)
    assert known["nearest"].shape == (2,)
    assert [len(known[name]) for name in ("pictures", "strip")] == [2, 5]
    assert 0 <= known["first"].mAP_standard <= 1
    assert Path("anna.safetensors").is_file()


def test_the_example_of_a_gallery_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = config.load("tiny")
    save_model(tmp_path / "runs" / "market" / "joint" / "model.safetensors", DGNet(tiny, 3).eval(), tiny, "joint", [])
    synthesize(tmp_path / "shop", identities=4, test_identities=2, images_per_camera=2, height=32, width=16)
    (tmp_path / "shop" / "query").rename(tmp_path / "photos")
    shutil.copy(sorted((tmp_path / "photos").glob("*.jpg"))[0], tmp_path / "anna.jpg")
    monkeypatch.chdir(tmp_path)
    (example,) = (b for b in blocks(ROOT / "docs" / "recipes.md", "python") if "model.gallery" in b.text)
    known: dict[str, Any] = {}
    exec(compile(example.text, "recipes.md", "exec"), known)
    assert known["matches"][0].place == 1
    assert known["matches"][0].about["camera"] == "3"


# docs/method.md


def rows(heading: str) -> dict[str, list[str]]:
    """The table below a heading of docs/method.md: cells by the term in the first column."""
    section = (ROOT / "docs" / "method.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {first.strip("` "): [cell.strip() for cell in rest] for first, *rest in table}


def test_every_term_is_described_as_it_is() -> None:
    chosen = config.load("market1501")
    first, last = (loss_weights(chosen.loss, iteration) for iteration in (1, chosen.train.iterations))
    weights = {term: f"{first[term]:g}" if first[term] == last[term] else f"0 to {last[term]:g}" for term in first}
    weights |= {"discriminator": f"{chosen.loss.adversarial:g}", "penalty": f"{chosen.loss.r1:g}"}
    described = rows("From equation to code")
    assert {term: cells[2] for term, cells in described.items()} == weights

    step = (PACKAGE / "train" / "step.py").read_text()
    for term, (_, _, _, code, function) in described.items():
        assert code.strip("`") in step, code
        assert callable(find(function.strip("` "))), function
        if term in first:
            assert f'term["{term}"] = ' in step, term


def test_who_learns_is_what_is_tested() -> None:
    tested = runpy.run_path(str(ROOT / "tests" / "train" / "test_gradients.py"))["TABLE"]
    described = rows("Who learns from what")
    assert {term: tuple(cell.strip("- |") for cell in cells) for term, cells in described.items()} == tested


def test_terms_beyond_the_paper_are_described() -> None:
    tested = runpy.run_path(str(ROOT / "tests" / "train" / "test_gradients.py"))["METRIC_TABLE"]
    described = rows("Beyond the paper")
    assert {term: cells[2].strip("- |") for term, cells in described.items()} == tested
    assert tuple(described) == config.METRICS
    for _, function, _ in described.values():
        assert callable(find(function.strip("` ")))
    assert "`term |= self.compared(scene, evaluated)`" in (ROOT / "docs" / "method.md").read_text()
    assert "term |= self.compared(scene, evaluated)" in (PACKAGE / "train" / "step.py").read_text()


# What else must agree


def test_one_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert citation["version"] == newest[1] == dgnet.__version__


@each_document
def test_nothing_is_left_to_be_filled_in(document: Path) -> None:
    text = prose(document)
    assert "<!--" not in text, "a comment marks what is to be filled in"
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (document.parent / picture).is_file(), picture
