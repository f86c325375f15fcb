"""Patterns of file names: `{identity}_c{camera}_*.jpg`, `{camera}/{identity}/*`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from dgnet.errors import UserError

_PIECE = re.compile(r"\{(?P<name>[^{}]*)\}|(?P<star>\*)|(?P<text>[^*{}]+)")


@dataclass(frozen=True)
class _Piece:
    """A field by name, `*`, or text that must stand there."""

    name: str = ""
    digits: bool = False
    text: str = ""


@dataclass(frozen=True)
class Pattern:
    """What a file's path looks like, below the folder of its split; `/` stands between folders.

    `{identity}`, `{camera}`, `{split}` and any other `{column}` stand for a part of a name, `*` for anything;
    `{camera:d}` for digits alone. Upper and lower case are alike. A field is as short as what follows lets it be, and
    ends at a `/`; a name that two fields can share out in two ways has two readings.
    """

    text: str
    pieces: tuple[_Piece, ...]

    @property
    def depth(self) -> int:
        """Folders between that of the split and the images."""
        return self.text.count("/")

    def readings(self, path: str, at_most: int = 2, *, shortest: bool = True) -> list[dict[str, str]]:
        """The different ways in which the pattern fits a path, at most so many: none, one, or an ambiguity.

        Without `shortest`, also those in which a field before `*` is longer than it need be.
        """

        @cache
        def rest(piece: int, at: int) -> tuple[tuple[tuple[str, str], ...], ...]:
            """The readings of `path[at:]` by the pieces from `piece` on."""
            if piece == len(self.pieces):
                return ((),) if at == len(path) else ()
            this = self.pieces[piece]
            if this.text:
                stop = at + len(this.text)
                return rest(piece + 1, stop) if path[at:stop].casefold() == this.text.casefold() else ()
            end = path.find("/", at)
            found: dict[tuple[tuple[str, str], ...], None] = {}
            for stop in range(at + bool(this.name), (len(path) if end < 0 else end) + 1):
                part = path[at:stop]
                if this.digits and not part.isdecimal():
                    break
                for later in rest(piece + 1, stop):
                    found[((this.name, part), *later) if this.name else later] = None
                if (found and (not this.name or (shortest and self._before_a_star(piece)))) or len(found) >= at_most:
                    break
            return tuple(found)[:at_most]

        return [dict(reading) for reading in rest(0, 0)]

    def _before_a_star(self, piece: int) -> bool:
        """Whether what comes next, but for text, is `*`: then the field ends where that text first stands."""
        following = [after for after in self.pieces[piece + 1 :] if not after.text]
        return bool(following) and not following[0].name


def parse(text: str) -> Pattern:
    """The pattern that `text` writes. Raises `UserError` where it is none, or has no `{identity}`."""
    pieces = [_piece(match, text) for match in _PIECE.finditer(text)]
    if "".join(match[0] for match in _PIECE.finditer(text)) != text:
        raise UserError(f"pattern {text}: a brace is left open; write fields as {{identity}}")
    names = [piece.name for piece in pieces if piece.name]
    if "identity" not in names:
        raise UserError("layout pattern needs a pattern with {identity}, as in pattern:{identity}_c{camera}_*.jpg")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"pattern {text}: {{{name}}} stands twice")
    return Pattern(text, tuple(pieces))


def _piece(match: re.Match[str], text: str) -> _Piece:
    if match["star"]:
        return _Piece()
    if match["text"]:
        return _Piece(text=match["text"])
    name, colon, kind = match["name"].partition(":")
    if not name.isidentifier():
        raise UserError(f"pattern {text}: '{name}' is no word of letters and digits")
    if colon and kind != "d":
        raise UserError(f"pattern {text}: '{{{match['name']}}}': only {{{name}:d}}, digits, is known")
    return _Piece(name=name, digits=bool(colon))
