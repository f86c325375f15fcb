"""How identities and cameras are written: the numbers that mean something of their own, and words as one spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

from dgnet.errors import UserError

JUNK, DISTRACTOR = -1, 0  # among identities
UNKNOWN_CAMERA = UNKNOWN_CLOTHES = -1
SPECIAL = {"-1": JUNK, "junk": JUNK, "distractor": DISTRACTOR, "distractors": DISTRACTOR}
NOTHING = ("nan", "null", "none", "n/a", "na", "<na>", "nat")  # what other programs write for an empty cell
NUMBER = re.compile(r"([+-]?)(\d{1,400})(?:[.,]0*)?")
_ANY_NUMBER = re.compile(r"[+-]?\d{1,400}(?:[.,]\d*)?(?:[eE][+-]?\d{1,4})?")
LARGEST = 2**31 - 1  # a number beyond it is a name


def visible(text: str) -> str:
    """`text` without what no reader sees: characters of no width, and blanks of any kind but single ones."""
    return " ".join("".join(letter for letter in text if unicodedata.category(letter) != "Cf").split())


def shown(text: str) -> str:
    """`text` with its invisible letters written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def meaning(word: str) -> str:
    r"""What a word is compared by: a number as a number, letters in their composed form, what is seen of them.

    Examples:
        >>> [meaning(word) for word in ("2", "02", "2.0", "2,0", "+2", "-0", "anna", "an\u200bna ")]
        ['2', '2', '2', '2', '2', '0', 'anna', 'anna']
    """
    word = visible(word)
    number = NUMBER.fullmatch(word)
    if number is None:
        return unicodedata.normalize("NFC", word)
    return str(-int(number[2]) if number[1] == "-" else int(number[2]))


def one_number_once(words: Iterable[str], what: str) -> None:
    """Raises UserError where two words are one number, as 1e3 and 1000 are: codes, or the number?"""
    first: dict[Decimal, str] = {}
    for word in words:
        if _ANY_NUMBER.fullmatch(word):
            before = first.setdefault(Decimal(word.replace(",", ".")), word)
            if before != word:
                raise UserError(f"{what} '{before}' and {what} '{word}' are one number: one or two? Write it one way")
