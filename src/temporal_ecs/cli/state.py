"""state list, show, rebuild, forget, unlock."""

from __future__ import annotations

from typing import Any

import click

from temporal_ecs.errors import ConfigError

from .app import App, Group


def recorded_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    app = ctx.ensure_object(App)
    return [name for name in app.stack if name.startswith(incomplete)]


@click.group(cls=Group)
def state() -> None:
    """Look at and mend the state file."""


@state.command("list")
@click.pass_obj
def list_(app: App) -> None:
    """Every recorded resource with its status and id."""
    records = {name: app.state.get(name) for name in app.state.names()}
    if app.talk.json:
        app.talk.data(records)
    elif records:
        app.talk.table((n, r["kind"], r["status"], r["id"] or "") for n, r in records.items())
    else:
        app.talk.say("nothing is recorded")


@state.command()
@click.argument("name", shell_complete=recorded_names)
@click.pass_obj
def show(app: App, name: str) -> None:
    """The record of NAME, and what uses it, as JSON."""
    app.talk.data(_record(app, name) | {"users": sorted(app.state.users(name))})


@state.command()
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def rebuild(app: App, *, yes: bool) -> None:
    """Read the state back from AWS, by tags and names. Creates and changes nothing there."""
    from temporal_ecs.state import set_aside

    app.talk.say(app.where())
    app.confirm(f"Rebuild {app.state_path} from AWS?", yes=yes)
    with app.changing("state rebuild"):
        kept = set_aside(app.state_path)
        if kept:
            app.talk.say(f"the damaged file is kept as {kept}")
        with app.talk.progress(len(app.stack)) as emit:
            result = app.engine_with(emit=emit).rebuild()
    app.talk.say(f"{result.count('found')} resources found, {result.count('absent')} not there")
    app.conclude(result)


@state.command()
@click.argument("name", shell_complete=recorded_names)
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def forget(app: App, name: str, *, yes: bool) -> None:
    """Drop the record of NAME; the thing itself stays in AWS."""
    app.talk.say(app.where())
    record = _record(app, name)
    users = sorted(app.state.users(name))
    app.talk.say(f"{name} is {record['kind']} {record['id']}, {record['status']}")
    if users:
        app.talk.say(f"it is used by {', '.join(users)}", "yellow")
    app.confirm("Forget it?", yes=yes)
    with app.changing("state forget"):
        app.state.drop(name)
    app.talk.say(f"forgot {name}; `tecs provision` would find it again by tag or name")


@state.command()
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def unlock(app: App, *, yes: bool) -> None:
    """Remove the operators' lock after showing who holds it."""
    from temporal_ecs.lock import OperatorLock

    lock = OperatorLock(app.aws, "state unlock")
    app.talk.say(app.where())
    if not lock.held():
        app.talk.say(f"nobody holds {lock.parameter}")
        return
    app.talk.say(f"{lock.parameter} is held: {lock.holder() or 'by somebody who left no name that this tecs can read'}")
    app.confirm("Remove the lock? If that command still runs, the two will clash.", yes=yes)
    lock.clear()
    app.talk.say("unlocked")


def _record(app: App, name: str) -> dict[str, Any]:
    from difflib import get_close_matches

    if name not in app.state:
        near = get_close_matches(name, app.state.names(), 1)
        raise ConfigError(f"{name!r} is not recorded" + (f", did you mean {near[0]!r}?" if near else ""))
    return app.state.get(name)
