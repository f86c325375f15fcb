"""The user's words for people and cameras, and the numbers that stand for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from dgnet.errors import UserError
from dgnet.labels import JUNK, LARGEST, NOTHING, NUMBER, SPECIAL, UNKNOWN_CAMERA, meaning, one_number_once, shown


def one_spelling(words: Mapping[str, Iterable[str]], what: str, notes: list[str], folders: bool) -> dict[str, str]:
    """For each word its meaning, which stands for it; words that could mean one thing, or two, are noted.

    Raises UserError where two folders of one split would be one person's, or two words are one number (1e3, 1000).
    """
    meant: dict[str, str] = {}
    spelt: dict[str, dict[str, str]] = defaultdict(dict)  # by meaning: each spelling, and the split where it stands
    for split, said in words.items():
        for word in dict.fromkeys(said):
            key = meant.setdefault(word, meaning(word))
            if word not in spelt[key] and folders and split in spelt[key].values():
                other = next(spelling for spelling, place in spelt[key].items() if place == split)
                both = f"'{shown(other)}' and '{shown(word)}' of {split}"
                raise UserError(f"the folders {both}: one {what} or two? Join them, or name them apart")
            spelt[key].setdefault(word, split)
    one_number_once(spelt, what)
    alike: dict[str, list[str]] = defaultdict(list)
    for key in spelt:
        alike[key.casefold()].append(key)
    for spellings, sign, taken in (
        (map(list, spelt.values()), " = ", f"with one {what} in several spellings, taken as one"),
        (alike.values(), " and ", f"where upper and lower case alone differ, taken as more than one {what}"),
    ):
        several = [sign.join(f"'{shown(word)}'" for word in found) for found in spellings if len(found) > 1]
        if several:
            notes.append(f"{len(several)} {taken}: {'; '.join(several[:3])}")
    return meant


def number_people(names: set[str], asked: set[str], source: object) -> dict[str, int]:
    """Identity numbers: whole numbers keep their value, other names are numbered from 1 in sorted order.

    A 0 among the `asked` (train and query) is a person, not a distractor; then all numbers go up by one.
    """
    if any(name.startswith("-") and NUMBER.fullmatch(name) and name != "-1" for name in names):
        wrong = next(name for name in sorted(names) if name.startswith("-") and name != "-1")
        raise UserError(f"{source}: identity {wrong}: of the negative numbers only -1, junk, means something")
    if all(map(NUMBER.fullmatch, names)) and max(map(int, names)) < LARGEST:
        first = 1 if "0" in asked else 0
        return {name: JUNK if name == "-1" else int(name) + first for name in names}
    special = {name: SPECIAL[name.casefold()] for name in names if name.casefold() in SPECIAL}
    return {name: number for number, name in enumerate(sorted(names - special.keys()), start=1)} | special


def number_cameras(names: set[str]) -> dict[str, int]:
    unknown = {name for name in names if name in ("", "-1") or name.casefold() in NOTHING}
    known = sorted(names - unknown)
    numbers = all(name.isdecimal() and int(name) < LARGEST for name in known)
    return {name: int(name) if numbers else place for place, name in enumerate(known, start=1)} | dict.fromkeys(
        unknown, UNKNOWN_CAMERA
    )
