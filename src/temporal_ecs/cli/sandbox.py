"""sandbox start, stop, status, env."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from temporal_ecs.errors import FAILED, TecsError

from .app import App, Group

if TYPE_CHECKING:
    from temporal_ecs.sandbox.process import Sandbox


@click.group(cls=Group)
@click.pass_obj
def sandbox(app: App) -> None:
    """Run the local AWS to try tecs on."""
    app.sandbox = True  # profiles of the AWS configuration mean nothing here


def _require() -> None:
    try:
        import moto  # noqa: F401
    except ImportError:
        raise TecsError(
            "the sandbox is not installed", "Install it with: pip install 'temporal-ecs[sandbox]'"
        ) from None


@sandbox.command()
@click.option("--speed", default=100.0, show_default=True, help="AWS's delays are divided by this; 1 is real time.")
@click.option("--hours", default=8.0, show_default=True, help="It stops by itself after so long.")
@click.pass_obj
def start(app: App, *, speed: float, hours: float) -> None:
    """Start it in the background, on loopback."""
    _require()
    from temporal_ecs.sandbox import process

    running = process.start(app.sandbox_folder, speed=speed, lifetime=hours * 3600, region=app.config.region)
    if app.talk.json:
        app.talk.data(asdict(running))
        return
    app.talk.say(f"the sandbox answers at {running.endpoint} (process {running.pid}, {speed:g} times faster than AWS)")
    app.next("provision")


@sandbox.command()
@click.pass_obj
def stop(app: App) -> None:
    """Stop it; everything in it is gone."""
    from temporal_ecs.sandbox import process

    stopped = process.stop(app.sandbox_folder)
    for leftover in app.sandbox_folder.glob("*.state.json*"):
        leftover.unlink()
    app.talk.say("stopped" if stopped else "it was not running")


@sandbox.command()
@click.pass_obj
def status(app: App) -> None:
    """Whether it answers, and what it does not model."""
    from temporal_ecs.sandbox import process

    found = process.find(app.sandbox_folder)
    if app.talk.json:
        running = asdict(found) if found else {}
        app.talk.data({"running": found is not None, "not_modelled": process.NOT_MODELLED, **running})
    else:
        app.talk.show(_line(found) if found else "not running")
        app.talk.show("not modelled:")
        for line in process.NOT_MODELLED:
            app.talk.show(f"  {line}")
    if found is None:
        raise click.exceptions.Exit(FAILED)


def _line(found: Sandbox) -> str:
    return f"running at {found.endpoint}, process {found.pid}, {found.speed:g} times faster than AWS"


@sandbox.command()
@click.pass_obj
def env(app: App) -> None:
    """Print variables that point any AWS tool at it: eval "$(tecs sandbox env)"."""
    from temporal_ecs.sandbox import process

    variables = process.environment(app.running_sandbox()) | {"TECS_SANDBOX": "1"}
    if app.talk.json:
        app.talk.data(variables)
    else:
        for name, value in variables.items():
            app.talk.show(f"export {name}={shlex.quote(value)}")
