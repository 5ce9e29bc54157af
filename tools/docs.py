"""Write the generated documents, or with --check say which are out of date.

docs/cli.md, docs/resources.md, tecs.example.toml, the list of security-group rules in docs/architecture.md;
and the changelog's newest version must be the package's.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from temporal_ecs import __version__
from temporal_ecs.cli import COMMANDS, cli
from temporal_ecs.config import Config, example
from temporal_ecs.resource import Ref, Resource
from temporal_ecs.resources.security_group_rules import SecurityGroupRules
from temporal_ecs.stack import Stack, load

ROOT = Path(__file__).parent.parent
NOTE = "<!-- written by `make docs`; don't edit -->\n"


def command_pages() -> str:
    """docs/cli.md: the help of every command."""
    parts = ["# Command line\n", NOTE]
    root = in_context(cli, "tecs")

    def visit(command: click.Command, context: click.Context, level: int) -> None:
        text = re.sub(r"[ \t]+$", "", command.get_help(context), flags=re.MULTILINE)
        parts.append(f"{'#' * level} {context.command_path}\n\n```\n{text}\n```\n")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                visit(child, in_context(child, name, context), level + 1)

    visit(cli, root, 2)
    return "\n".join(parts)


def in_context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return command.context_class(
        command, info_name=name, parent=parent, max_content_width=100, terminal_width=100, **command.context_settings
    )


def resource_pages(stack: Stack) -> str:
    """docs/resources.md: every resource of the default stack by group."""
    lines = ["# Resources\n", NOTE, f"The default stack has {len(stack)} resources.\n"]
    for group, names in sorted(stack.groups().items()):
        lines += [f"## {group}\n", "| resource | kind | made in | needs | notes |", "|---|---|---|---|---|"]
        lines += [_row(stack, name) for name in names]
        lines.append("")
    return "\n".join(lines)


def _row(stack: Stack, name: str) -> str:
    item = stack[name]
    kind = type(item)
    notes = []
    if kind.holds_data:
        notes.append(f"holds {kind.holds_data}: outlives a plain teardown")
    if kind.permanent:
        notes.append("never deleted")
    if kind.typical:
        notes.append(f"takes {kind.typical[0]:.0f} to {kind.typical[1]:.0f} s")
    source = Path(inspect.getfile(kind)).name
    needs = ", ".join(sorted(stack.needs(name)))
    return f"| `{name}` | {kind.__name__} | {source} | {needs} | {'; '.join(notes)} |"


def rule_rows(stack: Stack) -> Iterator[str]:
    """Every security-group rule, as docs/architecture.md lists it."""
    yield "| group | direction | port | peer | why |"
    yield "|---|---|---|---|---|"
    for item in stack.values():
        if isinstance(item, SecurityGroupRules):
            for rule in item.rules:
                peer = rule["peer"].name if isinstance(rule["peer"], Ref) else rule["peer"]
                why = rule["description"].rpartition(" to " if rule["direction"] == "out" else " from ")[0]
                group = item.name.removesuffix("-rules")
                yield f"| {group} | {rule['direction']} | {rule['from']} | {peer.removesuffix('-sg')} | {why} |"


def between(text: str, name: str, new: str) -> str:
    """`text` with what stands between the markers of `name` replaced."""
    start, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    assert after or rest.endswith(end), f"no markers for {name}"
    return f"{before}{start}\n{new}\n{end}{after}"


def documents() -> dict[Path, str]:
    """Every generated document with its text."""
    stack = load(Config())
    architecture = ROOT / "docs" / "architecture.md"
    rules = "\n".join(rule_rows(stack))
    return {
        ROOT / "docs" / "cli.md": command_pages(),
        ROOT / "docs" / "resources.md": resource_pages(stack),
        ROOT / "tecs.example.toml": example(),
        architecture: between(architecture.read_text(encoding="utf-8"), "security-group rules", rules),
    }


def main() -> None:
    for name in COMMANDS:
        assert cli.get_command(click.Context(cli), name) is not None
    assert Resource.kinds
    wrong = []
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(path.relative_to(ROOT))
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    newest = re.search(r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if newest is None or newest[1] != __version__:
        sys.exit(f"CHANGELOG.md must begin with {__version__}, the package's version")
    if wrong and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(map(str, wrong))}; run `make docs`")


if __name__ == "__main__":
    main()
