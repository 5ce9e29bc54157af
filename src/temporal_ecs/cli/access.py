"""exec, forward, logs."""

from __future__ import annotations

import json
import re
import shlex
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from temporal_ecs.errors import INTERRUPTED, TERMINATED
from temporal_ecs.ops.access import FORWARDED, LISTENS, LOGGED
from temporal_ecs.services import SERVICES

from . import Terminated
from .app import App, Command
from .dsql import seconds

if TYPE_CHECKING:
    from temporal_ecs.ops.access import Log, LogLine, Plugin, Session


def task_id(ctx: click.Context, param: click.Parameter, value: str | None) -> str:  # noqa: ARG001
    """The id of a task, its beginning, or its ARN."""
    wanted = (value or "").rpartition("/")[2]
    if value is not None and not re.fullmatch(r"[0-9A-Za-z-]+", wanted):
        raise click.BadParameter(f"{value!r} is no task id; `tecs status` and `tecs logs` show them", param=param)
    return wanted


task_option = click.option(
    "--task", callback=task_id, metavar="ID", help="This task; the beginning of its id is enough."
)


class Passing(Command):
    """Options stand before or after SERVICE; from the first word of COMMAND on, everything is COMMAND's."""

    allow_interspersed_args = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ahead = self._options(ctx, args)
        service, rest = args[ahead : ahead + 1], args[ahead + 1 :]
        after = self._options(ctx, rest)
        return super().parse_args(ctx, [*args[:ahead], *rest[:after], *service, *rest[after:]])

    def _options(self, ctx: click.Context, args: list[str]) -> int:
        """How many words at the beginning are options and their values."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        parser = click.Command(self.name, params=list(options), add_help_option=False).make_parser(ctx)
        return len(args) - len(parser.parse_args(list(args))[1])


@click.command(cls=Passing)
@click.argument("service", type=click.Choice(list(SERVICES)), metavar="SERVICE")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@task_option
@click.option("--container", "name", default="", metavar="NAME", help="Another container than the service's own.")
@click.pass_obj
def exec(app: App, service: str, command: tuple[str, ...], task: str, name: str) -> None:  # noqa: A001
    """Run COMMAND, by default /bin/sh, in a healthy task of SERVICE, with your terminal.

    One word is taken as a command line, several are quoted into one; there is no shell around it. AWS does not
    tell how COMMAND ended: the exit status is that of the session-manager-plugin.
    """
    from temporal_ecs.ops.access import find_plugin, open_shell, run, short

    plugin = find_plugin()
    line = command[0] if len(command) == 1 else shlex.join(command) or "/bin/sh"
    session = open_shell(app.aws, app.config.project, SERVICES[service], line, task=task, name=name)
    _tell(app, plugin)
    app.talk.say(f"{service}: task {short(session.task)}, container {session.container}")
    raise click.exceptions.Exit(run(plugin, session, profile=_profile(app)))


@click.command(cls=Command)
@click.argument("service", type=click.Choice(FORWARDED))
@click.option("--port", type=click.IntRange(1, 65535), help="Local port; by default that of the service.")
@task_option
@click.pass_obj
def forward(app: App, service: str, port: int | None, task: str) -> None:
    """Make SERVICE answer on this machine, until Ctrl-C.

    Prints the address once something listens there.
    """
    from temporal_ecs.ops.access import find_plugin, open_port, port_of, require_free, run

    plugin = find_plugin()
    chosen = SERVICES[service]
    local = port or port_of(chosen)
    require_free(local)
    session = open_port(app.aws, app.config.project, chosen, local=local, task=task)
    _tell(app, plugin)
    address = f"http://localhost:{local}" if chosen.http else f"localhost:{local}"

    def heard(line: str) -> None:
        if LISTENS in line:
            _tell_address(app, service, address, session)
        elif line:
            app.talk.say(line, "dim")

    raise click.exceptions.Exit(run(plugin, session, profile=_profile(app), heard=heard))


def _tell_address(app: App, service: str, address: str, session: Session) -> None:
    if app.talk.json:
        app.talk.data({"service": service, "address": address, "task": session.task})
        sys.stdout.flush()
    else:
        app.talk.show(address)
    app.talk.say("forwarding; Ctrl-C ends it")


def _tell(app: App, plugin: Plugin) -> None:
    if not plugin.private:
        app.talk.say(
            f"warning: while this session is open, users of this machine can see its token in the process list: "
            f"session-manager-plugin {plugin.version or 'of unknown version'} is too old to hide it",
            "yellow",
        )


def _profile(app: App) -> str:
    return "" if app.sandbox else app.profile or ""


@click.command(cls=Command)
@click.argument("service", type=click.Choice(LOGGED), metavar="SERVICE")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--since", default="10m", show_default=True, callback=seconds, metavar="D", help="How far back.")
@click.option("--grep", default="", metavar="TEXT", help="Only what contains TEXT, literally.")
@task_option
@click.pass_obj
def logs(app: App, service: str, since: float, grep: str, task: str, *, follow: bool) -> None:
    """Show what SERVICE, benchmark or opensearch-setup wrote: time in UTC, task, message; stopped tasks too.

    With -o json one document; with -o json and -f one document a line.
    """
    from temporal_ecs.ops.access import Log

    log = Log(app.aws, app.config.project, service, task=task, grep=grep)
    start = log.now() - since
    if follow:
        try:
            for line in log.follow(start, poll=2 * app.poll, note=lambda text: app.talk.say(text, "yellow")):
                app.talk.show(json.dumps(_data(line)) if app.talk.json else _text(line))
        except KeyboardInterrupt as cut:  # the way to end it, so nothing to explain
            status = TERMINATED if isinstance(cut, Terminated) else INTERRUPTED
            raise click.exceptions.Exit(status) from None
    elif app.talk.json:
        found = [_data(line) for page in log.pages(start) for line in page]
        app.talk.data({"log_group": log.group, "since": _time(start), "events": found})
    else:
        _show(app, log, start)


def _show(app: App, log: Log, start: float) -> None:
    empty = True
    for page in log.pages(start):
        for line in page:
            empty = False
            app.talk.show(_text(line))
    if empty:
        app.talk.say(f"nothing in {log.group} since {_time(start)}; --since looks further back")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(line: LogLine) -> str:
    from temporal_ecs.ops.access import short

    return f"{_time(line.at)} {short(line.task)}  {line.message}"


def _data(line: LogLine) -> dict[str, Any]:
    return {"time": _time(line.at), "task": line.task, "message": line.message}
