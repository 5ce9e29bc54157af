"""init, plan, provision, teardown, status, output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from temporal_ecs.errors import CHANGES, ConfigError, TecsError

from .app import App, Command, complete_names

if TYPE_CHECKING:
    from temporal_ecs.ops.fleet import ServiceState

names_argument = click.argument("names", nargs=-1, shell_complete=complete_names)
yes_option = click.option("-y", "--yes", is_flag=True, help="Don't ask.")


@click.command(cls=Command)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.pass_obj
def init(app: App, *, force: bool) -> None:
    """Write a commented tecs.toml."""
    from temporal_ecs.config import example

    path = app.config_file or Path("tecs.toml")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists", "Nothing was changed. Add --force to overwrite it.")
    try:
        path.write_text(example(), encoding="utf-8")
    except OSError as error:
        raise TecsError(f"cannot write {path}: {error.strerror}", "Nothing was changed.") from None
    app.talk.say(f"wrote {path}: every setting at its default, commented out")
    app.next("plan")


def _chosen(app: App, words: tuple[str, ...]) -> list[str] | None:
    from temporal_ecs.stack import expand

    return expand(words, app.stack.groups(), app.stack) if words else None


@click.command(cls=Command)
@names_argument
@click.option("--check", is_flag=True, help="Exit with 3 when something would change.")
@click.pass_obj
def plan(app: App, names: tuple[str, ...], *, check: bool) -> None:
    """Show what would change, by field; reads only."""
    from temporal_ecs.report import connections_data, connections_line, plan_data, show_plan

    chosen = _chosen(app, names)
    changes = app.engine.plan(chosen)
    counts, sizes = app.sized.counts, app.sized.sizes
    if app.talk.json:
        app.talk.data(plan_data(changes) | ({} if names else {"dsql_connections": connections_data(counts, sizes)}))
    else:
        show_plan(app.talk, changes, app.stack.groups())
        if not names:
            app.talk.show(connections_line(counts, sizes), "dim")
    if check and any(change.action != "same" for change in changes):
        raise click.exceptions.Exit(CHANGES)


@click.command(cls=Command)
@names_argument
@click.option(
    "--adopt",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_names,
    help="Take over what exists under this name.",
)
@yes_option
@click.pass_obj
def provision(app: App, names: tuple[str, ...], adopt: tuple[str, ...], *, yes: bool) -> None:
    """Create or fix the stack, or NAMES (resources or groups) and what they need.

    Idempotent: what is as declared stays untouched. Can be cut at any moment and run again.
    """
    from temporal_ecs.report import show_plan
    from temporal_ecs.stack import expand

    chosen = _chosen(app, names)
    adopted = expand(adopt, {}, app.stack)
    app.talk.say(app.where())
    if not yes:
        changes = app.engine_with(adopt=adopted).plan(chosen)
        if any(change.action not in ("same", "delete") for change in changes):
            if not app.talk.json:
                show_plan(app.talk, changes, app.stack.groups(), say=app.talk.say)
            app.confirm("Go on?", yes=False)
    with app.changing("provision") as take_lock:
        from temporal_ecs.walk import closure

        total = len(closure(chosen or app.stack, app.stack.needs))
        with app.talk.progress(total) as emit:
            result = app.engine_with(adopt=adopted, emit=emit, before_change=take_lock).provision(chosen)
    next_step = "schema setup" if result.count("created") else "status"  # a new database has no schema yet
    app.conclude(result, next_step="" if chosen else next_step)


@click.command(cls=Command)
@names_argument
@click.option("--with-data", is_flag=True, help="Also what holds data: database, visibility, metrics, images, secret.")
@click.option("--confirm", "typed", metavar="PROJECT", help="The project's name, for --with-data without a terminal.")
@yes_option
@click.pass_obj
def teardown(app: App, names: tuple[str, ...], typed: str | None, *, with_data: bool, yes: bool) -> None:
    """Remove the stack, or NAMES (resources or groups) and what uses them.

    What holds data stays, with everything that it stands in, unless --with-data. Ends by proving that nothing
    else is left.
    """
    from temporal_ecs.removal import groups_of, left_behind, staying
    from temporal_ecs.report import show_doomed
    from temporal_ecs.stack import expand

    app.talk.say(app.where())
    left: list[str] = []
    with app.changing("teardown") as take_lock:
        groups = groups_of(app.stack, app.state)
        chosen = expand(names, groups, [*app.stack, *app.state.names()]) if names else None
        stays = {} if with_data else staying(app.state, chosen)
        _refuse_named_data(names, groups, stays)
        doomed = app.engine.doomed(chosen, with_data=with_data)
        show_doomed(app.talk, doomed, groups, stays)
        if with_data and app.engine.kept() & doomed:
            app.confirm_project("--with-data destroys data for good", typed=typed)
        elif doomed:
            app.confirm("Remove them?", yes=yes)
        with app.talk.progress(len(doomed)) as emit:
            result = app.engine_with(emit=emit, before_change=take_lock).teardown(chosen, with_data=with_data)
        if result.ok and chosen is None:
            left = left_behind(app.stack, app.state, app.aws, doomed)
            _tell_what_is_left(app, left, beyond=bool(stays))
    app.conclude(result, left=left)


def _refuse_named_data(words: tuple[str, ...], groups: Mapping[str, Collection[str]], stays: Mapping[str, str]) -> None:
    """Whoever names a database, or its group, would be surprised to lose all but the database."""
    for word in words:
        for name in (word, *groups.get(word, ())):
            if name in stays and (name == word or stays[name].startswith("holds")):
                raise ConfigError(
                    f"{name} stays without --with-data: {stays[name]}",
                    f"Nothing was changed. `tecs teardown {word} --with-data` removes it and what uses it.",
                )


def _tell_what_is_left(app: App, left: list[str], *, beyond: bool) -> None:
    if not left:
        app.talk.say(f"proven by tag and by listing: nothing of this project is left{', beyond what stays' * beyond}")
        return
    app.talk.say("Still there, though nothing of it is in the state:", "yellow")
    for line in left:
        app.talk.say(f"  {line}")
    app.talk.say("`tecs state rebuild` finds what tecs made; then run this again.")


@click.command(cls=Command)
@click.pass_obj
def status(app: App) -> None:
    """Show resources, from the state file, and services, from ECS. Drift is `plan`'s."""
    from temporal_ecs.ops import fleet

    records = {name: app.state.get(name) for name in app.state.names()}
    services = fleet.services(app.aws, app.config.project).values() if records.get("cluster", {}).get("id") else ()
    if app.talk.json:
        app.talk.data(
            {
                "project": app.config.project,
                "region": app.config.region,
                "resources": {n: {"kind": r["kind"], "status": r["status"], "id": r["id"]} for n, r in records.items()},
                "services": [dict(zip(SERVICE_COLUMNS, _columns(row), strict=True)) for row in services],
            }
        )
        return
    app.talk.say(app.where())
    _show_resources(app, records)
    if services:
        app.talk.show()
        head = ("service", "status", "wanted", "running", "pending", "deployment", "last event")
        app.talk.table((_columns(row) for row in services), head)


SERVICE_COLUMNS = ("service", "status", "wanted", "running", "pending", "rollout", "event")


def _columns(row: ServiceState) -> tuple[Any, ...]:
    return row.name, row.status, row.wanted, row.running, row.pending, row.rollout, row.event


def _show_resources(app: App, records: dict[str, Any]) -> None:
    from temporal_ecs.removal import groups_of

    if not records:
        app.talk.show("nothing is recorded; `tecs provision` makes the stack, `tecs state rebuild` finds one")
        return
    rows = []
    for group, members in groups_of(app.stack, app.state).items():
        known = [records[name] for name in members if name in records]
        unfinished = [n for n in members if n in records and records[n]["status"] != "ready"]
        missing = sum(name not in records for name in members)
        remark = f"unfinished: {', '.join(unfinished)}" if unfinished else f"{missing} not made" if missing else ""
        rows.append((group, str(len(known) - len(unfinished)), str(len(members)), remark))
    app.talk.table(rows, ("group", "ready", "of", ""))


@click.command(cls=Command)
@click.argument("name", required=False)
@click.pass_obj
def output(app: App, name: str | None) -> None:
    """Print ids, endpoints and ready-to-run commands, or the one called NAME."""
    from difflib import get_close_matches

    from temporal_ecs.outputs import outputs

    known = outputs(app.config, app.state)
    if name is None:
        present = {key: value for key, value in known.items() if value is not None}
        if app.talk.json:
            app.talk.data(present)
        else:
            for key, value in present.items():
                app.talk.show(f"{key} = {_text(value)}")
        return
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise ConfigError(f"unknown output {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    if known[name] is None:
        raise TecsError(f"{name} is not there yet", "Run `tecs provision` first.")
    if app.talk.json:
        app.talk.data(known[name])
    else:
        app.talk.show(_text(known[name]))


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
