"""Finding a data set's folders and images as they really lie on disks: nested, misspelt in case, amid clutter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dgnet import console
from dgnet.errors import UserError
from dgnet.files import expanded

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif")
_OTHER_IMAGES = re.compile(
    r"\.(hei[cf]|gif|jxl|jp2|j2k|psd|p[pgn]m|tga|dng|cr[23w]|nef|arw|orf|raf|rw2)", re.IGNORECASE
)
_NO_IMAGES = re.compile(
    r"\.([ct]sv|txt|jsonl?|xml|ya?ml|md|html?|pdf|mat|np[yz]|pkl|parquet|zip|t?gz|tar|db|log|pth?|py)", re.IGNORECASE
)
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|II\*\0|MM\0\*|RIFF....WEBP|....ftyp(hei|hev|mif1|msf1|avi)", re.DOTALL
)


def find_root(root: Path, marks: Sequence[str], what: str) -> Path:
    """The folder that holds at least one of `marks` (folders or files): `root`, or a single one up to two levels below.

    Raises UserError naming what is there instead; `what` is the data set's name in messages.
    """
    root = existing_folder(root)
    for depth, level in enumerate(levels(root)):
        found = [folder for folder in level if has_any(folder, marks)]
        if len(found) == 1:
            if depth:
                console.notice(f"{what}: reading {found[0]}, found inside {root}")
            return found[0]
        if found:
            raise UserError(f"{root} holds {what} {len(found)} times ({_few(found)}): give one of these folders")
    for above in root.parents[:2]:
        if has_any(above, marks):
            raise UserError(f"{root} is a folder inside {what}: give {above} instead")
    inside = [entry for entry in sorted(root.iterdir()) if not entry.name.startswith(".")]
    held = f"it holds {_few(inside)}" if inside else "it is empty"
    raise UserError(f"{root} does not look like {what}: none of {', '.join(marks)} is there; {held}")


def levels(root: Path) -> Iterator[list[Path]]:
    """`[root]`, then the folders in it, then those in them; no further where there are many, as those hold images."""
    level = [root]
    for _ in range(3):
        yield level
        level = [inner for folder in level for inner in subfolders(folder)]
        if len(level) > 100:
            return


def has_any(folder: Path, names: Sequence[str]) -> bool:
    """Whether `folder` holds an entry of one of `names`, upper and lower case alike."""
    wanted = {name.casefold() for name in names}
    with os.scandir(folder) as entries:
        return any(entry.name.casefold() in wanted for entry in entries)


def existing_folder(root: Path) -> Path:
    """`root`, absolute; raises UserError where it is not a folder."""
    root = expanded(root).absolute()
    if not root.exists():
        raise UserError(f"data folder {root} does not exist")
    if not root.is_dir():
        raise UserError(f"{root} is a file; a data folder, or a table (.csv, .tsv, .parquet), is needed")
    require_utf8(root)
    return root


def child(folder: Path, name: str) -> Path | None:
    """The entry `name` of `folder` (`name` may be a path), upper and lower case alike; None where there is none."""
    for part in Path(name).parts:
        exact = folder / part
        if not exact.exists():
            if not folder.is_dir():
                return None
            alike = [entry for entry in folder.iterdir() if entry.name.casefold() == part.casefold()]
            if len(alike) != 1:
                return None
            exact = alike[0]
        folder = exact
    return folder


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, by name; hidden ones and the __MACOSX of archives left out."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    found = [folder / name for name in sorted(names) if not name.startswith((".", "__MACOSX"))]
    for path in found:
        require_utf8(path)
    return found


def innermost(folder: Path) -> Path:
    """`folder`, or the only folder in it where that, and not `folder`, holds the folders of people or splits."""
    while len(inside := subfolders(folder)) == 1 and not images_in(folder):
        if images_in(inside[0]) or not subfolders(inside[0]):
            break
        folder = inside[0]
    return folder


def images_in(folder: Path) -> list[Path]:
    """The images directly in `folder`, by name; Thumbs.db, hidden files and everything else are passed over."""
    with os.scandir(folder) as entries:
        found = [folder / name for name in sorted(entry.name for entry in entries if is_image(entry.name))]
    for path in found:
        require_utf8(path)
    return found


def require_utf8(path: Path) -> None:
    """Raises UserError if a file or folder has a name that no text file (configuration, table) could hold."""
    if any("\udc80" <= letter <= "\udcff" for letter in path.name or str(path)):
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise UserError(f"{shown}: its name is not UTF-8, which no table or file could keep; rename it")


def images_below(folder: Path, depth: int) -> list[Path]:
    """The images `depth` folders down, by name."""
    level = [folder]
    for _ in range(depth):
        level = [inner for outer in level for inner in subfolders(outer)]
    return [path for inner in level for path in images_in(inner)]


def everywhere_below(root: Path) -> Iterator[Path]:
    """All files below `root`, by name; hidden ones and the __MACOSX of archives left out."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__MACOSX")))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def images_among(places: Iterable[str | Path]) -> list[Path]:
    """The files among `places`, and all images anywhere below the folders among them, each once, in that order.

    A file that is named is taken whatever its ending. Raises UserError for what is not there, a folder without images,
    and a name that no text could keep.
    """
    found: dict[Path, None] = {}
    for place in map(expanded, places):
        if place.is_dir():
            inside = [path for path in everywhere_below(place) if is_image(path.name)]
            if not inside:
                raise UserError(f"{place}: no images anywhere in this folder ({', '.join(IMAGE_SUFFIXES)})")
        elif place.exists():
            inside = [place]
        else:
            raise UserError(f"{place}: no such file or folder")
        for path in inside:
            require_utf8(path)
        found |= dict.fromkeys(inside)
    return list(found)


def deeper_images(paths: Sequence[Path]) -> list[Path]:
    """Images in folders inside those where `paths` lie, which nobody looked into: a split may be one folder short."""
    used = {path.parent for path in paths}
    reached = used.union(*(folder.parents for folder in used))
    inside = [inner for folder in sorted(used) for inner in subfolders(folder) if inner not in reached]
    return [image for folder in inside for image in images_in(folder)]


def not_read(root: Path) -> list[Path]:
    """Pictures anywhere below `root` of a kind that is not read: they may be all that shows a person.

    A kind is told by its ending, such as .heic, or by the file's first bytes where the ending says nothing.
    """
    return [path for path in everywhere_below(root) if not is_image(path.name) and _is_other_image(path)]


def _is_other_image(path: Path) -> bool:
    if _OTHER_IMAGES.fullmatch(path.suffix):
        return True
    if _NO_IMAGES.fullmatch(path.suffix):
        return False
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return bool(_BEGINNINGS.match(file.read(16)))
    except OSError:
        return False


def is_image(name: str) -> bool:
    """Whether a file of that name is an image rather than clutter such as Thumbs.db or ._0001.jpg."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def some_images_in(folder: Path) -> list[Path]:
    """As `images_in`, but raises UserError where there is none."""
    found = images_in(folder)
    if found:
        return found
    deeper = [inner for inner in subfolders(folder) if images_in(inner)]
    where = f"; there are some one level deeper, in {deeper[0]}" if deeper else ""
    raise UserError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}){where}")


def matches(paths: Sequence[Path], pattern: str | re.Pattern[str], example: str) -> list[re.Match[str]]:
    """The match of each file's name; raises UserError naming the first file that is not named like `example`."""
    compiled = re.compile(pattern)
    tried = [compiled.match(path.name) for path in paths]
    found = [match for match in tried if match]
    if len(found) < len(paths):
        wrong = paths[tried.index(None)]
        raise UserError(
            f"{wrong} is not named like {example} ({len(paths) - len(found)} of {len(paths)} in that folder)"
        )
    return found


def lines(listing: Path, pattern: str, example: str) -> list[re.Match[str]]:
    """The match of each line of a text file; raises UserError naming the first that is not like `example`."""
    if listing.is_dir():
        raise UserError(f"{listing} is a folder; a text file of lines like '{example}' is needed")
    compiled = re.compile(pattern)
    found = []
    for number, line in enumerate(listing.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        if line.strip():
            match = compiled.fullmatch(line.strip())
            if match is None:
                shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in line.strip()[:80])
                raise UserError(f"{listing}, line {number}: '{shown}' is not like '{example}'")
            found.append(match)
    if not found:
        raise UserError(f"{listing} is empty")
    return found


def named(listing: Path, folder: Path, names: Sequence[str]) -> list[Path]:
    """The images of `folder` that `listing` names; raises UserError where some are not there."""
    paths = [folder / name for name in names]
    there = {path for inner in {path.parent for path in paths} if inner.is_dir() for path in images_in(inner)}
    absent = [name for name, path in zip(names, paths, strict=True) if path not in there]
    if absent:
        raise UserError(
            f"{listing} names {len(absent)} of {len(paths)} images that are not in {folder}, the first {absent[0]}"
        )
    return paths


def _few(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:4])
    return names if len(paths) <= 4 else f"{names} and {len(paths) - 4} more"
