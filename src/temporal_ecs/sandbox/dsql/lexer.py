"""SQL in tokens, as far as telling statements apart needs it. PostgreSQL itself does the parsing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Token(NamedTuple):
    """A piece of a statement: word, quoted, string, number, parameter or symbol, and where it stands."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """In capitals if it is an unquoted word; else a symbol or string as it stands."""
        return self.text.upper() if self.kind == "word" else self.text

    @property
    def name(self) -> str:
        """The identifier it means."""
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        return self.text.lower()


_PATTERN = re.compile(
    r"""
      (?P<space>   \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<string>  [eE]' (?:[^'\\]|\\.|'')* ' | (?:[bBxXnN]|[uU]&)? ' (?:[^']|'')* ' )
    | (?P<quoted>  " (?:[^"]|"")* " )
    | (?P<dollar>  \$ (?:[^\W\d]\w*)? \$ )
    | (?P<parameter> \$\d+ )
    | (?P<word>    [^\W\d] [\w$]* )
    | (?P<number>  (?: \d[\d_]*\.?\d* | \.\d+ ) (?: [eE][+-]?\d+ )? )
    | (?P<symbol>  :: | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_END = re.compile(r"/\*|\*/")


def tokens(sql: str) -> Iterator[Token]:
    """Every token, comments and spaces left out."""
    at = 0
    while at < len(sql):
        found = _PATTERN.match(sql, at)
        assert found
        kind, end = str(found.lastgroup), found.end()
        if kind == "comment":
            end = _after_comment(sql, end)
        elif kind == "dollar":
            closing = sql.find(found.group(), end)
            end = closing + len(found.group()) if closing >= 0 else len(sql)
            yield Token("string", sql[at:end], at, end)
        elif kind != "space":
            yield Token(kind, found.group(), at, end)
        at = end


def statements(sql: str) -> list[tuple[str, list[Token]]]:
    """The statements between semicolons, with their tokens; empty ones left out. Tokens count from the statement."""
    found: list[tuple[str, list[Token]]] = []
    current: list[Token] = []
    for token in [*tokens(sql), Token("symbol", ";", len(sql), len(sql))]:
        if token.text != ";":
            current.append(token)
        elif current:
            start, end = current[0].start, current[-1].end
            moved = [Token(one.kind, one.text, one.start - start, one.end - start) for one in current]
            found.append((sql[start:end], moved))
            current = []
    return found


def starts(found: Sequence[Token], *words: str) -> bool:
    """Whether tokens begin with these words; `a|b` is either."""
    return len(found) >= len(words) and all(
        token.word in word.split("|") for token, word in zip(found, words, strict=False)
    )


def position(found: Sequence[Token], *words: str) -> int | None:
    """Where these words stand one after the other, at any depth."""
    for at in range(len(found) - len(words) + 1):
        if starts(found[at:], *words):
            return at
    return None


def depths(found: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """Each token with the number of parentheses around it; a parenthesis stands outside itself."""
    depth = 0
    for token in found:
        if token.text in (")", "]"):
            depth -= 1
        yield depth, token
        if token.text in ("(", "["):
            depth += 1


def outer(found: Sequence[Token], *words: str) -> int | None:
    """Where one of these words stands outside of all parentheses."""
    for at, (depth, token) in enumerate(depths(found)):
        if depth == 0 and token.word in words:
            return at
    return None


def inside(found: Sequence[Token], opening: int) -> list[list[Token]]:
    """What stands between the commas of the parentheses that open at a token."""
    parts: list[list[Token]] = [[]]
    for depth, token in depths(found[opening + 1 :]):
        if depth < 0:
            break
        if depth == 0 and token.text == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def commas(found: Sequence[Token]) -> list[list[Token]]:
    """What stands between the commas outside of all parentheses."""
    parts: list[list[Token]] = [[]]
    for depth, token in depths(found):
        if depth == 0 and token.text == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _after_comment(sql: str, at: int) -> int:
    depth = 1
    while depth:
        found = _COMMENT_END.search(sql, at)
        if not found:
            return len(sql)
        depth += 1 if found.group() == "/*" else -1
        at = found.end()
    return at
