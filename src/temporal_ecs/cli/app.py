"""What every command has at hand: the global options and, made when first asked for, what they lead to."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from temporal_ecs.errors import ConfigError, TecsError

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.clock import Clock
    from temporal_ecs.config import Config
    from temporal_ecs.dsql.database import Database
    from temporal_ecs.engine import Engine
    from temporal_ecs.report import Talk
    from temporal_ecs.sandbox.process import Sandbox
    from temporal_ecs.stack import Stack
    from temporal_ecs.state import State
    from temporal_ecs.walk import Result

SANDBOX_KEYS = {"aws_access_key_id": "sandbox", "aws_secret_access_key": "sandbox"}


class App:
    """One invocation. Nothing heavy is imported or built until a property is used."""

    def __init__(self) -> None:
        self.config_file: Path | None = None
        self.project: str | None = None
        self.region: str | None = None
        self.profile: str | None = None
        self.state_file: Path | None = None
        self.sandbox = False
        self.output = "auto"
        self.api_log: Path | None = None
        self.debug = False

    @cached_property
    def talk(self) -> Talk:
        from temporal_ecs.report import Talk

        return Talk(self.output)

    @cached_property
    def config(self) -> Config:
        from temporal_ecs.config import load

        path = self.config_file
        if path is None and Path("tecs.toml").exists():
            path = Path("tecs.toml")
        if self.config_file is not None and not self.config_file.exists():
            raise ConfigError(f"there is no {self.config_file}", "Nothing was changed. `tecs init` writes one.")
        return load(path, project=self.project, region=self.region, fallback_region=self._profile_region)

    def _profile_region(self) -> str | None:
        if self.sandbox:
            return None
        from temporal_ecs.aws import profile_region

        return profile_region(self.profile)

    @cached_property
    def stack(self) -> Stack:
        from temporal_ecs.stack import load

        return load(self.sized)

    @property
    def sized(self) -> Config:
        """The configuration with the preset that `scale up` chose, if it did."""
        from temporal_ecs.state import preset_of

        return self.config.sized(preset_of(self.state_path))

    @cached_property
    def aws(self) -> Aws:
        from temporal_ecs.aws import Aws

        endpoint, credentials = None, None
        if self.sandbox:
            endpoint, credentials = self.running_sandbox().endpoint, SANDBOX_KEYS
            for variable in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):  # botocore looks it up even when given keys
                os.environ.pop(variable, None)
        return Aws(
            self.config.project,
            self.config.region,
            environment=self.config.environment,
            profile=None if self.sandbox else self.profile,
            endpoint=endpoint,
            credentials=credentials,
            loopback_only=self.sandbox,
            api_log=self.api_log,
            unknown_enum=lambda text: self.talk.say(f"warning: {text}", "yellow"),
        )

    def running_sandbox(self) -> Sandbox:
        """The sandbox of this folder; TecsError when none answers."""
        from temporal_ecs.sandbox.process import find

        found = find(self.sandbox_folder)
        if found is None:
            raise TecsError("no sandbox is running here", "Nothing was called. Start one: tecs sandbox start")
        return found

    @property
    def sandbox_folder(self) -> Path:
        return Path(".tecs") / "sandbox"

    @property
    def state_path(self) -> Path:
        if self.state_file is not None:
            return self.state_file
        folder = self.sandbox_folder if self.sandbox else Path(".tecs")
        return folder / f"{self.config.project}.{self.config.region}.state.json"

    @cached_property
    def state(self) -> State:
        from temporal_ecs.state import State

        return State(self.state_path, project=self.config.project, account=self.aws.account, region=self.config.region)

    @cached_property
    def engine(self) -> Engine:
        return self.engine_with()

    def engine_with(self, **options: Any) -> Engine:
        from temporal_ecs.engine import Engine

        return Engine(self.stack, self.state, self.aws, poll=self.poll, **options)

    @cached_property
    def clock(self) -> Clock:
        from temporal_ecs.clock import Clock

        return Clock()

    @property
    def poll(self) -> float:
        """Seconds between two looks at something that takes its time."""
        return 0.2 if self.sandbox else 1.0

    def database(self, endpoint: str | None, user: str) -> Database:
        """The DSQL cluster of --endpoint, tecs.toml or the state, in this order; TecsError when none is known.

        Connects when first asked. In a sandbox only the sandbox's own address is connected to.
        """
        from temporal_ecs.aws import dsql_region
        from temporal_ecs.dsql.connect import Target
        from temporal_ecs.dsql.database import Database

        known, recorded = self.config.dsql, self.state.get("dsql").get("outputs", {})
        host = endpoint or known.endpoint or recorded.get("endpoint")
        if not host:
            raise TecsError(
                "no DSQL cluster is known here",
                "Make one with `tecs provision dsql`, set [dsql] in tecs.toml, or name one with --endpoint.",
            )
        arns = {known.endpoint: known.arn, recorded.get("endpoint"): recorded.get("arn")}
        where = f"{dsql_region(host) or self.config.region}:{self.aws.account}"
        arn = arns.get(host) or f"arn:{self.aws.partition}:dsql:{where}:cluster/{host.partition('.')[0]}"
        address, port, roots = self._way_to_dsql()
        target = Target(host=host, user=user, address=address, port=port, roots=roots, resource=arn)
        return Database(target, lambda: self.aws.dsql_token(host, admin=target.admin), note=self.talk.say)

    def _way_to_dsql(self) -> tuple[str, int, str]:
        """Address, port and trusted roots where they are not the usual ones."""
        if self.sandbox:
            found = self.running_sandbox()
            if not found.dsql_port:
                raise TecsError(
                    "this sandbox has no DSQL", "Stop it and start one of this version: tecs sandbox stop, start."
                )
            return found.dsql_hostaddr, found.dsql_port, found.dsql_ca
        address, port = os.environ.get("TECS_DSQL_HOSTADDR", ""), os.environ.get("TECS_DSQL_PORT", "5432")
        try:
            ip_address(address or "127.0.0.1")
        except ValueError:
            raise ConfigError(f"TECS_DSQL_HOSTADDR must be an IP address, got {address!r}") from None
        if not (port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError(f"TECS_DSQL_PORT must be a port, 1 to 65535, got {port!r}")
        return address, int(port), os.environ.get("TECS_DSQL_CA", "")

    # -- what mutating commands share ----------------------------------------------------------------------

    def next(self, words: str) -> None:
        """Say which command comes next, as it is to be typed here."""
        self.talk.say(f"next: tecs {'--sandbox ' * self.sandbox}{words}")

    def where(self) -> str:
        place = " in the sandbox" if self.sandbox else ""
        return f"account {self.aws.account}, region {self.config.region}, project {self.config.project}{place}"

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask, unless `yes`. Without a terminal nobody can answer: wrong usage."""
        if yes:
            return
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigError("this needs a confirmation and there is no terminal", "Nothing was changed. Add --yes.")
        click.confirm(question, abort=True, err=True)

    def confirm_project(self, consequence: str, *, typed: str | None) -> None:
        """Have the project's name typed, here or in --confirm; --yes is no answer to this."""
        name = self.config.project
        if typed is None:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise ConfigError(
                    f"{consequence}; this needs the project's name and there is no terminal",
                    f"Nothing was changed. Add --confirm {name}.",
                )
            typed = click.prompt(f"{consequence}. Type the project's name to go on", err=True)
        if typed != name:
            raise ConfigError(f"{typed!r} is not the project's name", "Nothing was changed.")

    @contextmanager
    def changing(self, operation: str) -> Iterator[Callable[[], None]]:
        """Hold the state file; yields what takes the operators' lock, which is dropped at the end."""
        from temporal_ecs.lock import changing

        with changing(self.aws, self.state_path, operation, lambda text: self.talk.say(text, "yellow")) as take:
            for read_before in ("state", "engine"):  # another command may have written it since
                self.__dict__.pop(read_before, None)
            yield take

    def conclude(self, result: Result, *, next_step: str = "", left: Collection[str] = ()) -> None:
        """Show how a walk ended, and leave with its exit status: 1 also when something is `left` behind."""
        from temporal_ecs.report import result_data, show_result

        errors = {name: _words(error) for name, error in result.errors.items()}
        if self.talk.json:
            document = result_data(result, errors)
            self.talk.data(document | {"ok": result.ok and not left, "left": sorted(left)})
        show_result(self.talk, result, errors)
        if self.debug and result.errors:
            raise next(iter(result.errors.values()))
        if result.stop is not None:
            raise result.stop
        if result.errors:
            self.talk.say("What failed is above; the rest is recorded. Run the command again to continue.")
            statuses = {e.status for e in result.errors.values() if isinstance(e, TecsError)}
            raise click.exceptions.Exit(max(statuses, default=1))
        if left:
            raise click.exceptions.Exit(1)
        if next_step:
            self.next(next_step)

    def names(self) -> list[str]:
        """Resource and group names, for completion."""
        return [*self.stack, *self.stack.groups()]


def _words(error: Exception) -> tuple[str, str]:
    known = error if isinstance(error, TecsError) else explained(error)
    if known is None:
        return f"this is a bug in tecs: {error!r}", "Run it again with --debug and report what it prints."
    return known.message, known.hint


def explained(error: BaseException) -> TecsError | None:
    """An AWS error in the operator's words, without loading boto3 where it was never loaded."""
    if "botocore" not in sys.modules:
        return None
    from temporal_ecs.aws import explain

    return explain(error)


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    app = ctx.ensure_object(App)
    try:
        return [CompletionItem(name) for name in app.names() if name.startswith(incomplete)]
    except TecsError:
        return []


# -- global options, before or after the command's name ------------------------------------------------------


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> None:  # noqa: ARG001
        if value not in (None, False, ()):
            setattr(ctx.ensure_object(App), name, value)

    return callback


FILE = click.Path(dir_okay=False, path_type=Path)


def _options(*, hidden: bool) -> list[click.Option]:
    def option(*names: str, to: str, env: str | list[str], **rest: Any) -> click.Option:
        return click.Option(
            names,
            expose_value=False,
            callback=_set(to),
            hidden=hidden,
            envvar=None if hidden else env,
            show_envvar=not hidden,
            **rest,
        )

    return [
        option(
            "-c",
            "--config",
            to="config_file",
            env="TECS_CONFIG",
            type=FILE,
            help="Settings; default ./tecs.toml.",
        ),
        option("--project", to="project", env="TECS_PROJECT", help="Names everything; default temporal-dev."),
        option("--region", to="region", env=["AWS_REGION", "AWS_DEFAULT_REGION"], help="AWS region."),
        option("--profile", to="profile", env="AWS_PROFILE", help="AWS profile."),
        option("--state", to="state_file", env="TECS_STATE", type=FILE, help="State file; default under ./.tecs."),
        option("--sandbox", to="sandbox", env="TECS_SANDBOX", is_flag=True, help="Talk to the running sandbox."),
        option(
            "-o",
            "--output",
            to="output",
            env="TECS_OUTPUT",
            type=click.Choice(["auto", "rich", "plain", "json"]),
            help="auto: rich on a terminal, plain elsewhere.",
        ),
        option(
            "--api-log",
            to="api_log",
            env="TECS_API_LOG",
            type=FILE,
            help="One JSON line for each AWS request.",
        ),
        option("--debug", to="debug", env="TECS_DEBUG", is_flag=True, help="Show tracebacks."),
    ]


class GlobalOptions(click.Command):
    """A command that takes the global options too. On the root they show in --help and have variables."""

    root = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_options(hidden=not self.root))


class Command(GlobalOptions):
    pass


class Group(GlobalOptions, click.Group):
    command_class = Command
