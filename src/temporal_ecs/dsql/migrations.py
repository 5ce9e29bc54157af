"""Versions of Temporal's schema as steps: those that tecs carries, and those of a Temporal checkout.

A checkout's files are read, split and put into DSQL's dialect before anything runs. The fork's own tool cannot do
that: its splitter takes the IF of IF NOT EXISTS for the start of a block and fails.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from temporal_ecs.errors import ConfigError

from .catalogue import Catalogue
from .dialect import Change, UnfitError, translate
from .temporal_schema import TemporalSchema, create_index, create_table, number

PLACES = ("schema/dsql/temporal/versioned", "schema/dsql/v12/temporal/versioned", "temporal/versioned", "versioned", "")
"""Where a checkout, or a part of one, may have its versions."""


class Step(NamedTuple):
    """One statement; `where` says where it is written."""

    change: Change
    where: str

    def done(self, catalogue: Catalogue) -> bool:
        """Whether the catalogue shows that it has run."""
        return self.change.done(catalogue)


@dataclass(frozen=True)
class Migration:
    """The step from the version before to `version`."""

    version: str
    minimum: str
    md5: str
    description: str
    steps: tuple[Step, ...]


def carried(schema: TemporalSchema) -> list[Migration]:
    """The versions that tecs carries, oldest first."""
    made = []
    for version in schema.versions:
        tables = [table for table in schema.tables.values() if table.since == version.version]
        statements = [create_table(t) for t in tables] + [create_index(i) for t in tables for i in t.indexes]
        steps = tuple(Step(change, f"schema {version.version}") for sql in statements for change in translate(sql))
        made.append(Migration(*version, steps))
    return made


def from_checkout(folder: Path) -> list[Migration]:
    """The versions in a Temporal checkout, oldest first.

    ConfigError with every problem, each with its file and line.
    """
    home = _home(folder)
    found = {path.name[1:]: path for path in home.iterdir() if re.fullmatch(r"v\d+(\.\d+)*", path.name)}
    problems: list[str] = []
    made = [_migration(found[v], v, problems) for v in sorted(found, key=number)]
    if problems:
        count = f"{len(problems)} statements or files" if len(problems) > 1 else "a statement or file"
        raise ConfigError(
            f"{home} has {count} that tecs cannot run on DSQL:\n" + "\n".join(f"  {p}" for p in problems),
            "Nothing was changed. Rewrite them for DSQL and run the command again.",
        )
    return [migration for migration in made if migration]


def _home(folder: Path) -> Path:
    for place in PLACES:
        home = folder / place
        if home.is_dir() and any(re.fullmatch(r"v\d+(\.\d+)*", path.name) for path in home.iterdir()):
            return home
    raise ConfigError(
        f"{folder} holds no versions of Temporal's DSQL schema",
        f"Nothing was changed. --schema-dir wants a checkout of the fork, with {PLACES[0]} in it.",
    )


class _Manifest(NamedTuple):
    minimum: str
    description: str
    files: tuple[str, ...]


def _migration(folder: Path, version: str, problems: list[str]) -> Migration | None:
    path = folder / "manifest.json"
    try:
        raw = path.read_bytes()
        manifest = _manifest(json.loads(raw), version)
    except KeyError as missing:
        problems.append(f"{path}: {missing.args[0]} is missing")
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
        return None
    steps = tuple(step for name in manifest.files for step in _steps(folder / name, problems))
    problems += _moved_twice(steps)
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()  # what the fork's tool writes
    return Migration(version, manifest.minimum, digest, manifest.description, steps)


def _manifest(told: Mapping[str, Any], version: str) -> _Manifest:
    """What a manifest says; KeyError or ValueError where it says it wrong."""
    minimum = str(told["MinCompatibleVersion"])
    if not re.fullmatch(r"\d+(\.\d+)*", minimum):
        raise ValueError(f"MinCompatibleVersion is {minimum!r}, which is no version")
    if told["CurrVersion"] != version:
        raise ValueError(f"CurrVersion is {told['CurrVersion']!r}, the folder says {version}")
    files = tuple(map(str, told.get("SchemaUpdateCqlFiles") or ()))
    if not files and not told.get("AllowNoCqlFiles"):
        raise ValueError("SchemaUpdateCqlFiles is empty")
    return _Manifest(minimum, str(told.get("Description", "")), files)


def _steps(path: Path, problems: list[str]) -> Iterator[Step]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: {getattr(error, 'strerror', None) or error}")
        return
    try:
        for line, sql in split(text):
            try:
                yield from (Step(change, f"{path}:{line}") for change in translate(sql))
            except UnfitError as unfit:
                problems.append(f"{path}:{line}: {unfit}")
    except SyntaxError as error:
        problems.append(f"{path}:{error.lineno}: {error.msg}")


def _moved_twice(steps: Iterable[Step]) -> Iterator[str]:
    """Steps that hide from the catalogue whether an earlier one has run: a run that resumes would do that again."""
    moved: set[str] = set()
    for step in steps:
        for column in step.change.moves:
            if column in moved:
                yield (
                    f"{step.where}: column {column} is added, dropped or renamed a second time: after a cut nobody "
                    "could tell what has run"
                )
            moved.add(column)


# -- splitting -------------------------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
      | (?P<comment>/\*)
      | (?P<quoted>[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                 | \$\$.*?\$\$ | \$(?P<tag>[A-Za-z_]\w*)\$.*?\$(?P=tag)\$)
      | (?P<open>['"] | \$(?:[A-Za-z_]\w*)?\$)
      | (?P<end>;)
      | (?P<other>\w+ | .)""",
    re.VERBOSE | re.DOTALL,
)


def split(text: str) -> Iterator[tuple[int, str]]:
    """Statements with the line on which each begins, without comments and with one space between words.

    SyntaxError, with a line, for a quote or comment that does not end.
    """
    at, line, began, parts, apart = 0, 1, 0, list[str](), False
    while at < len(text):
        token = TOKEN.match(text, at)
        assert token is not None
        piece, kind = token[0], token.lastgroup
        if kind == "comment":
            piece, kind = _comment(text, at, line), "space"
        elif kind == "open":
            raise SyntaxError(f"{piece} is never closed", ("", line, 0, ""))
        if kind == "end":
            if parts:
                yield began, "".join(parts)
            parts.clear()
        elif kind != "space":
            began = began if parts else line
            parts.append(f" {piece}" if parts and apart and piece not in (",", ")") else piece)
        apart = kind == "space"
        line += piece.count("\n")
        at += len(piece)
    if parts:
        yield began, "".join(parts)


def _comment(text: str, at: int, line: int) -> str:
    """The block comment that begins at `at`; they nest."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[at:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return text[at : at + mark.end()]
    raise SyntaxError("a comment is never closed", ("", line, 0, ""))
