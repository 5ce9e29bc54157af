"""The command line: parse, call one thing, render, exit."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from temporal_ecs import __version__
from temporal_ecs.errors import FAILED, INTERRUPTED, TERMINATED, TecsError

from .app import App, GlobalOptions

COMMANDS = {  # name: (module of this package, one line for --help), so that help imports nothing else
    "init": ("lifecycle", "Write a commented tecs.toml."),
    "plan": ("lifecycle", "Show what would change, by field; reads only."),
    "provision": ("lifecycle", "Create or fix the stack, or NAMES and what they need."),
    "teardown": ("lifecycle", "Remove the stack, or NAMES and what uses them."),
    "status": ("lifecycle", "Show resources and services."),
    "output": ("lifecycle", "Print ids, endpoints and ready-to-run commands."),
    "state": ("state", "Look at and mend the state file."),
    "scale": ("scale", "Start or stop the services in order, each step proven."),
    "schema": ("dsql", "Temporal's schema in DSQL: status, setup, update."),
    "membership": ("dsql", "Show the ring's rows against the running tasks."),
    "clean-membership": ("dsql", "Delete stale rows of the ring."),
    "exec": ("access", "Open a shell in a task."),
    "forward": ("access", "Reach the UI, Grafana or the frontend from this machine."),
    "logs": ("access", "Show what a service logs."),
    "sandbox": ("sandbox", "Run the local AWS to try tecs on."),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM: handled like Ctrl-C, with an exit status of its own."""


class Root(GlobalOptions, click.Group):
    """Commands are imported when they are called."""

    root = True

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f".{COMMANDS[cmd_name][0]}", __name__), cmd_name.replace("-", "_")
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from difflib import get_close_matches

        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"unknown command {args[0]!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tecs")
def cli() -> None:
    """Operate a Temporal cluster on Amazon ECS with Aurora DSQL."""


def main() -> None:
    """Entry point: run the command, turn every expected error into one message and an exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    app = App()
    try:
        code = cli.main(prog_name="tecs", obj=app, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort as abort:  # click's own clothing for Ctrl-C, and for a question answered with no
        code = _interrupted(abort)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:  # noqa: BLE001  the last resort: nobody gets a raw traceback
        code = _complain(app, error)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that still wait for an answer of AWS must not hold back an operator who pressed Ctrl-C twice.
    os._exit(code if isinstance(code, int) else 0) if code in (INTERRUPTED, TERMINATED) else sys.exit(code or 0)


def _interrupted(abort: click.Abort) -> int:
    behind = abort.__cause__ or abort.__context__  # click hides it when it was asking a question
    if isinstance(behind, KeyboardInterrupt):
        click.echo("Interrupted. What was done is kept; run the command again to continue.", err=True)
        return TERMINATED if isinstance(behind, Terminated) else INTERRUPTED
    click.echo("Nothing was changed.", err=True)
    return FAILED


def _complain(app: App, error: Exception) -> int:
    if app.debug:
        raise error
    from .app import explained

    known = error if isinstance(error, TecsError) else explained(error)
    if known is None:
        click.echo(f"tecs: this is a bug: {error!r}", err=True)
        click.echo("  Run it again with --debug and report what it prints.", err=True)
        return FAILED
    click.echo(f"Error: {known.message}", err=True)
    if known.hint:
        click.echo(f"  {known.hint}", err=True)
    return known.status


def _terminate(*_: object) -> None:
    raise Terminated("terminated")
