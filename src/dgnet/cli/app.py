"""The command line: one thin subcommand per task. `dgnet --help` lists them.

torch takes seconds to import, pydantic tenths of one; so every task imports what it needs when it is called: help and
errors come at once.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import tyro
from tyro.conf import Positional

from dgnet import __version__, console
from dgnet.cli import data, evaluate, export, gallery, generate, look, score, search, study, train, weights
from dgnet.cli.common import INTERRUPTED
from dgnet.device import keep_freed
from dgnet.errors import UserError
from dgnet.files import expanded

ABOUT = "Person re-identification, trained together with a generator that swaps clothes and poses (DG-Net)."

app = tyro.extras.SubcommandApp()
app.command(data.app, name="data", help="Check a data set, draw one, look after image caches.")
app.command(train.app, name="train", help="Train a teacher, or DG-Net.")
app.command(study.study)
app.command(evaluate.evaluate)
app.command(generate.app, name="generate", help="Paint people in other people's clothes.")
app.command(score.score)
app.command(search.embed)
app.command(search.search)
app.command(search.same)
app.command(search.calibrate)
app.command(gallery.app, name="gallery", help="Keep people on disk to be searched.")
app.command(export.export)
app.command(weights.app, name="weights", help="Take over checkpoints of the published implementation.")
app.command(look.report)
app.command(look.serve)


@app.command
def demo(
    folder: Positional[Path] = Path("demo"),
    overrides: Positional[tuple[str, ...]] = (),
    identities: int = 150,
    test_identities: int = 30,
    control: bool = False,
) -> int:
    """The whole method in minutes: draw people, train the teacher and DG-Net, evaluate, write a report.

    Args:
        folder: where everything is made; finished stages in it are kept, an interrupted one is continued
        overrides: changes to the preset `demo`, such as train.iterations=50
        identities: people to draw
        test_identities: of these, held out from training
        control: also train a DG-Net as long that learns nothing from generated images, and say what these are worth
    """
    from dgnet import config as configuration
    from dgnet.demo import demo as run

    chosen = configuration.load("demo", overrides)
    made = run(folder, chosen, identities=identities, test_identities=test_identities, control=control)
    return 0 if made else INTERRUPTED


@app.command(name="config")
def show_config(
    preset: Positional[str] = "market1501",
    overrides: Positional[tuple[str, ...]] = (),
    explain: tuple[str, ...] | None = None,
) -> int:
    """Print the resolved configuration of a preset or of a YAML file; or what its values mean.

    Args:
        preset: a preset (market1501, demo, tiny, ...) or a YAML file
        overrides: changes, such as train.half_batch=4
        explain: say what values mean: all, or those of keys and groups such as train.half_batch or loss
    """
    from dgnet import config as configuration

    if explain is not None:
        chosen = configuration.load(preset, overrides)
        console.stdout.print("".join(configuration.explain(key, chosen) for key in explain or ("",)), end="")
        return 0
    console.stdout.print(configuration.to_yaml(configuration.load(preset, overrides)), end="")
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check found problems, 2 something given was wrong, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    console.print_anything()
    if given == ["--version"]:
        console.stdout.print(f"dgnet {__version__}")
        sys.exit(0)
    keep_freed()
    warnings.filterwarnings("ignore", module="PIL")  # of damaged photos, which are told in one line
    try:
        if "" in given:
            raise UserError("an empty word is given: a variable of the shell that is not set? This folder is .")
        words = [at_home(word) for word in given]
        code = app.cli(prog="dgnet", description=ABOUT, args=in_order(words) or ["--help"])
    except UserError as error:
        console.failed(" ".join(str(error).split("\n")))
        code = 2
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = None
        code = 0
    except OSError as error:  # a full disk, a folder that may not be written
        console.failed(f"{error.filename or 'input or output'}: {error.strerror or error}")
        code = 2
    except KeyboardInterrupt:
        console.notice("interrupted")
        code = INTERRUPTED
    sys.exit(code)


def at_home(word: str) -> str:
    """A word whose path begins with `~`, written out: a shell does so, but not behind `--option=` or in quotes."""
    option, path = re.fullmatch(r"(--[\w-]+=)?(.*)", word, re.DOTALL).groups("")  # type: ignore[union-attr]
    return option + str(expanded(path)) if re.match(r"~([^/\\]*[/\\]|$)", path) else word


_OVERRIDE = re.compile(r"[a-z]\w*(\.\w+)+=.*", re.DOTALL)
# Commands that take overrides, and what stands for the word before them where it is left out.
_OVERRIDDEN = {("demo",): "demo", ("config",): "market1501", ("train", "teacher"): None,
               ("train", "baseline"): None, ("train", "joint"): None}  # fmt: skip
_MANY = ("--explain",)  # options that take all words up to the next option
_FLAGS = ("--help", "-h")


def _resuming(words: Sequence[str]) -> list[str]:
    """`--resume` alone says yes; behind it may stand `auto`."""
    full: list[str] = []
    for word in words:
        if word == "auto" and full[-2:] == ["--resume", "yes"]:
            full[-1] = word
        else:
            full += {"--resume": ["--resume", "yes"], "--no-resume": ["--resume", "no"]}.get(word, [word])
    return full


def in_order(given: Sequence[str]) -> list[str]:
    """The words of a command with its overrides (`key.path=value`) behind its positional ones, wherever they stood."""
    command = next((c for c in _OVERRIDDEN if tuple(given[: len(c)]) == c), None)
    if command is None:
        return list(given)
    words: list[str] = []
    overrides: list[str] = []
    options: list[str] = []
    rest, many = iter(_resuming(given[len(command) :])), False
    for word in rest:
        if _OVERRIDE.fullmatch(word):
            overrides.append(word)
        elif word.startswith("-"):
            options.append(word)
            many = word in _MANY
            if not many and word not in _FLAGS and "=" not in word and (value := next(rest, None)) is not None:
                options.append(value)
        else:
            (options if many else words).append(word)
    default = _OVERRIDDEN[command]
    if default and overrides and not words:
        words = [default]
    return [*command, *words, *overrides, *options]
