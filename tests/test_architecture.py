"""The rooms and doors of docs/architecture.md, enforced."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "temporal_ecs"
FILES = sorted(SOURCE.rglob("*.py"))
RESOURCES = sorted((SOURCE / "resources").glob("[!_]*.py"))
HOME = {  # which package may be imported where, by path prefixes
    "click": ("cli/",),
    "rich": ("report.py", "cli/"),
    "boto3": ("aws.py",),
    "botocore": ("aws.py",),
    "moto": ("sandbox/", "cli/sandbox.py"),  # the command only asks whether it is installed
    "werkzeug": ("sandbox/",),
    "psycopg": ("dsql/", "sandbox/"),
    "temporalio": ("bench/", "sandbox/"),
}


def imported(path: Path, *, at_run_time: bool = False) -> set[str]:
    """Dotted names that a file imports; `at_run_time` leaves out what only type checkers see."""
    found: set[str] = set()
    package = ("temporal_ecs", *path.relative_to(SOURCE).parent.parts)

    def visit(node: ast.AST) -> None:
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found.update(f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def here(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=here)
def test_packages_are_imported_only_where_they_live(path: Path):
    strangers = {
        name for name in imported(path, at_run_time=True) for package, homes in HOME.items()
        if name.split(".")[0] == package and not here(path).startswith(homes)
    }  # fmt: skip
    assert not strangers


@pytest.mark.parametrize("path", [p for p in FILES if not here(p).startswith("cli/")], ids=here)
def test_nothing_imports_the_command_line(path: Path):
    assert not [name for name in imported(path) if name.startswith("temporal_ecs.cli")]


@pytest.mark.parametrize("path", RESOURCES, ids=here)
def test_resource_files_know_only_resource_services_and_errors(path: Path):
    ours = {name.split(".")[1] for name in imported(path, at_run_time=True) if name.startswith("temporal_ecs.")}
    assert ours <= {"resource", "services", "errors"}


@pytest.mark.parametrize("path", RESOURCES, ids=here)
def test_resource_authors_never_sleep_retry_or_catch(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, (ast.Try, ast.While))]
    assert "time" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", RESOURCES, ids=here)
def test_resource_files_end_with_declare(path: Path):
    last = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    names = [node.name for node in last]
    assert "declare" in names
    assert not [name for name in names[names.index("declare") + 1 :] if not name.startswith("_")]


@pytest.mark.parametrize("name", ["engine.py", "walk.py", "resource.py", "stack.py", "state.py"])
def test_the_engine_knows_no_aws_service_by_name(name: str):
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse((SOURCE / name).read_text(encoding="utf-8")))
        if isinstance(node, (ast.Attribute, ast.Name))
    }
    services = {"ec2", "ecs", "iam", "logs", "ssm", "ecr", "amp", "dsql", "sts", "autoscaling", "opensearch"}
    assert not names & services


@pytest.mark.parametrize("path", FILES, ids=here)
def test_every_module_says_what_it_is(path: Path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", FILES, ids=here)
def test_functions_stay_readable(path: Path):
    long = {
        node.name: node.end_lineno - node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno > 75
    }
    assert not long


def test_names_say_something():
    vague = re.compile(r"(^|_)(utils?|helpers?|manager|misc|common2)(_|\.|$)")
    assert not [here(path) for path in FILES if vague.search(path.name)]


def test_help_loads_nothing_heavy():
    heavy = ("boto3", "botocore", "rich", "moto", "temporal_ecs.engine", "temporal_ecs.config", "tomllib")
    code = (
        "import sys; sys.argv = ['tecs', '--help']\n"
        "from temporal_ecs.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "provision" in done.stdout
