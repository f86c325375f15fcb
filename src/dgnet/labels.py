"""How identities and cameras are written: the numbers that mean something of their own, and words as one spelling."""

from __future__ import annotations

import re
import unicodedata

JUNK, DISTRACTOR, UNKNOWN_CAMERA = -1, 0, -1  # among identities, and among cameras
SPECIAL = {"-1": JUNK, "junk": JUNK, "distractor": DISTRACTOR, "distractors": DISTRACTOR}
NOTHING = ("nan", "null", "none", "n/a", "na", "<na>", "nat")  # what other programs write for an empty cell
NUMBER = re.compile(r"([+-]?)(\d{1,400})(?:\.0*)?")
LARGEST = 2**31 - 1  # a number beyond it is a name


def meaning(word: str) -> str:
    """What a word is compared by: a number as a number, letters in their composed form.

    Examples:
        >>> [meaning(word) for word in ("2", "02", "2.0", "+2", "-0", "anna")]
        ['2', '2', '2', '2', '0', 'anna']
    """
    number = NUMBER.fullmatch(word)
    if number is None:
        return unicodedata.normalize("NFC", word)
    return str(-int(number[2]) if number[1] == "-" else int(number[2]))
