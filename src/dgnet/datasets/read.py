"""Data sets from the folders in which they lie: `read_dataset` is the way in. No file is copied or moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dgnet import console
from dgnet.config import Data
from dgnet.datasets.folders import (
    deeper_images,
    existing_folder,
    find_root,
    not_read,
    require_utf8,
)
from dgnet.datasets.layouts import LAYOUTS as LAYOUTS
from dgnet.datasets.layouts import detect as detect
from dgnet.datasets.layouts import tables_in
from dgnet.datasets.official import missing
from dgnet.datasets.records import DISTRACTOR, Dataset, hold_out, join
from dgnet.errors import UserError, nearest
from dgnet.files import expanded


def read_dataset(root: Path | str, layout: str = "auto", need: Sequence[str] | None = None) -> Dataset:
    """The data set in the folder (or table) `root`.

    Args:
        root: the folder of the data set; one that holds it, up to two levels above, will do.
        layout: a key of `LAYOUTS`, perhaps with an option ("msmt17:train", "pattern:{identity}_*"), or "auto".
        need: the splits that must be there ("train", "query", "gallery"); by default all that the layout has.

    Raises:
        UserError: an unknown layout, a folder that does not follow it, a split that is needed and cannot be read, or
            training images of a single identity.
    """
    root = expanded(root)
    if layout == "auto":
        layout = detect(root)
        console.notice(f"{root}: layout {layout}")
    name, _, option = layout.partition(":")
    if name not in LAYOUTS:
        raise UserError(f"unknown layout '{name}'{_nearest(name, ['auto', *LAYOUTS])}")
    kind = LAYOUTS[name]
    if kind.options is not None:
        option = option or kind.options[0]
        if option not in kind.options:
            raise UserError(f"layout {name} has no option '{option}'{_nearest(option, kind.options)}")
    if name == "table":
        base = _table_file(root, option)
    else:
        base = find_root(root, kind.marks, kind.title) if kind.marks else existing_folder(root)
    dataset = replace(kind.read(base, option), layout=layout)
    if base.is_dir() and (passed_over := not_read(base)):
        sentence = f"{len(passed_over)} pictures of a kind that is not read, the first {passed_over[0]}; make them JPEG"
        dataset = replace(dataset, notes=(*dataset.notes, sentence))
    if kind.marks and (deeper := deeper_images(dataset.paths)):
        sentence = f"{len(deeper)} images in folders inside those of the splits are not used, the first {deeper[0]}"
        dataset = replace(dataset, notes=(*dataset.notes, sentence))
    dataset.require(*(dataset.absent if need is None else need))
    for sentence in dataset.notes:
        console.warn(sentence)
    for sentence in missing(dataset):
        console.warn(sentence)
    return _trainable(dataset) if dataset.train and (need is None or "train" in need) else dataset


def laid_out(entry: str) -> tuple[str, str]:
    """Layout and folder of what is written as `FOLDER` or `LAYOUT=FOLDER`.

    Examples:
        >>> laid_out("people"), laid_out("msmt17:train=/data/MSMT17")
        (('auto', 'people'), ('msmt17:train', '/data/MSMT17'))
    """
    named, equals, folder = entry.partition("=")
    if not equals or (named.partition(":")[0] not in ("auto", *LAYOUTS) and expanded(entry).exists()):
        return "auto", entry
    return named, folder


def elsewhere(data: Data, root: Path | str | None, layout: str = "auto", holdout: float | None = None) -> Data:
    """`data` with another folder, another share of people held out of it, or both; None leaves what is there.

    Of another folder nobody is held out unless asked for. The seed stays, so that on the same people the same are held
    out. Raises UserError for a share that is none.
    """
    if holdout is not None and not 0 <= holdout < 1:
        raise UserError(f"holdout = {holdout:g}: a share of the people, from 0 to below 1, is needed")
    data = data if root is None else Data(root=str(root), layout=layout, holdout_seed=data.holdout_seed)
    return data if holdout is None else replace(data, holdout=holdout)


def of_config(data: Data, *need: str, recorded: bool = False) -> Dataset:
    """The data set that a configuration names, with what `join` adds to its training and `holdout` holds out of it.

    Args:
        data: `Config.data`.
        need: the splits that must be there; `join` matters where "train" is among them.
        recorded: whether a run wrote `data`, so that its folder may have moved since.

    Raises:
        UserError: as `read_dataset`; no root; an entry of `join` that is none.
    """
    option = "data.root=FOLDER" if "train" in need else "--data FOLDER"
    if not data.root:
        raise UserError(f"data.root is empty: say where the data set is, as {option}")
    if recorded and not expanded(data.root).exists():
        again = f", data.holdout={data.holdout:g} (--holdout {data.holdout:g}) as before" if data.holdout else ""
        raise UserError(
            f"data folder {data.root}, where the run was trained, does not exist; if it has moved, say {option}{again}"
            ", and data.layout (--layout) where it is laid out otherwise"
        )
    asked = ("train",) if data.holdout else need
    dataset = read_dataset(data.root, data.layout, need=asked)
    if data.holdout:
        dataset = hold_out(dataset, data.holdout, data.holdout_seed)
        words = dataset.words("identity")
        held_out = [words.get(person, str(person)) for person in dataset.query.people.tolist()]
        few = f"{', '.join(held_out[:8])}{', ...' * (len(held_out) > 8)}"
        console.notice(f"{dataset.root}: held out as query and gallery: {few} (data.holdout = {data.holdout:g})")
    if "train" not in need or not data.join:
        return dataset
    others = []
    for entry in data.join:
        layout, folder = laid_out(entry)
        others.append(read_dataset(folder, layout, need=("train",)))
    both = join([dataset, *others])
    return replace(dataset, name=both.name, train=both.train)


def of_model(
    data: Data, root: Path | str | None, layout: str = "auto", holdout: float | None = None, *, need: Sequence[str]
) -> Dataset:
    """The data set that a model is asked about: that of `root`, or the one that its run recorded as `data`.

    Raises as `elsewhere` and `of_config`.
    """
    if root is None and not data.root:
        raise UserError("data.root is empty: say where the data set is, as --data FOLDER")
    return of_config(elsewhere(data, root, layout, holdout), *need, recorded=root is None)


def _trainable(dataset: Dataset) -> Dataset:
    """`dataset` without junk and distractors among its training images, of which there must be two identities."""
    train = dataset.train
    proper = train.identities > DISTRACTOR
    if not proper.all():
        console.warn(f"{dataset.name}: {(~proper).sum()} training images are junk or distractors and are left out")
        train = train.subset(proper)
    if len(train.people) < 2:
        raise UserError(f"{dataset.root} has training images of {len(train.people)} identity: two or more are needed")
    return replace(dataset, train=train)


def _table_file(root: Path, option: str) -> Path:
    """The table that `root` is, or that lies in it: the one that `option` names, or the only one."""
    if root.is_file():
        require_utf8(root)
        return root.absolute()
    folder = existing_folder(root)
    found = [folder / option] if option else tables_in(folder)
    if len(found) != 1 or not found[0].is_file():
        held = ", ".join(path.name for path in tables_in(folder)) or "none"
        raise UserError(f"{root}: name the CSV or Parquet file, as in table:people.csv (there: {held})")
    return found[0]


def _nearest(word: str, choices: Sequence[str]) -> str:
    near = nearest(word, choices)
    hint = f" did you mean '{near}'?" if near else ""
    return f":{hint} one of {', '.join(choice for choice in choices if choice)}"
