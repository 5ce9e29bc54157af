"""schema status, setup, update; membership; clean-membership."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from temporal_ecs.errors import FAILED, ConfigError, TecsError

from .app import App, Command, Group

if TYPE_CHECKING:
    from temporal_ecs.dsql.database import Database
    from temporal_ecs.dsql.membership import Judged, Member, Ring
    from temporal_ecs.ops.tasks import RingTask

ROWS = 50
"""Rows of the ring that are shown one by one; -o json shows all."""

F = TypeVar("F", bound=Callable[..., Any])


def checked_host(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:  # noqa: ARG001
    from temporal_ecs.config import dsql_endpoint

    if value is not None and (problem := dsql_endpoint(value)):
        raise click.BadParameter(f"{value!r} {problem}", param=param)
    return value


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:  # noqa: ARG001
    """Seconds, or a number with s, m, h or d."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration; write 90s, 5m, 2h or 1d", param=param)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def reaching(command: F) -> F:
    """The options that say which database, and as whom."""
    for option in (
        click.option("--user", default="admin", show_default=True, metavar="ROLE", help="Database role to connect as."),
        click.option("--endpoint", callback=checked_host, metavar="HOST", help="Cluster, if not the stack's own."),
    ):
        command = option(command)
    return command


yes_option = click.option("-y", "--yes", is_flag=True, help="Don't ask.")
confirm_option = click.option("--confirm", "typed", metavar="PROJECT", help="The project's name, for --overwrite.")


# -- schema ----------------------------------------------------------------------------------------------------


@click.group(cls=Group)
def schema() -> None:
    """Temporal's schema in DSQL."""


@schema.command()
@reaching
@click.pass_obj
def status(app: App, endpoint: str | None, user: str) -> None:
    """Compare the database with the schema that tecs carries, by column; exit 1 when they differ. Reads only."""
    from temporal_ecs.dsql.schema import status as compare

    with app.database(endpoint, user) as database:
        found = compare(database, shards=app.config.temporal.history_shards)
        host = database.target.host
    if app.talk.json:
        app.talk.data(
            {
                "endpoint": host,
                "same": found.same,
                "version": found.version or None,
                "min_compatible_version": found.minimum or None,
                "wanted": found.wanted,
                "history_shards": found.shards,
                "differences": [d._asdict() for d in found.differences],
                "other_tables": found.strangers,
            }
        )
    else:
        app.talk.show(f"{host}: version {found.version or 'none'}, tecs carries {found.wanted}")
        if found.differences:
            app.talk.table(((d.where, d.found, d.wanted) for d in found.differences), ("what", "is", "wanted"))
        else:
            app.talk.show("every table, column, key and index is as wanted")
        unset = "cannot be read" if found.unreadable else "not set before the first start of a server"
        app.talk.show(f"history shards: {found.shards or unset}")
        if found.strangers:
            app.talk.show(f"not Temporal's, left alone: {', '.join(found.strangers)}", "dim")
        if found.remedy:
            app.next(f"schema {found.remedy}")
    if not found.same:
        raise click.exceptions.Exit(FAILED)


@schema.command()
@reaching
@click.option("--overwrite", is_flag=True, help="Drop Temporal's tables first, with every workflow in them.")
@confirm_option
@yes_option
@click.pass_obj
def setup(app: App, endpoint: str | None, user: str, typed: str | None, *, overwrite: bool, yes: bool) -> None:
    """Bring an empty database to Temporal's schema.

    Can be cut at any moment and run again; what is there stays. A database with another version is refused:
    `tecs schema update` is for that.
    """
    from temporal_ecs.dsql import schema as temporal
    from temporal_ecs.dsql.temporal_schema import wanted

    shards = app.config.temporal.history_shards
    with app.database(endpoint, user) as database:
        app.talk.say(f"{app.where()}, database {database.target.host}")
        if overwrite:
            require_own(app, database, "--overwrite")
            prove_stopped(app)
            app.confirm_project("--overwrite destroys every workflow in this database for good", typed=typed)
        elif not (todo := temporal.missing(database, shards=shards)):
            return report(app, database, 0, f"nothing to do: the schema is at {wanted().version}")
        else:
            app.confirm(f"Run {len(todo.statements)} statements to make or complete the schema?", yes=yes)
        began = database.clock.now()
        with app.changing("schema setup") as take_lock:
            total = wanted().pieces + len(wanted().tables) if overwrite else len(todo.statements) + 1
            with app.talk.progress(total) as emit:
                if overwrite:
                    prove_stopped(app)
                    temporal.drop(database, emit=emit, before_write=take_lock)
                done = temporal.setup(database, shards=shards, emit=emit, before_write=take_lock, poll=app.poll)
        report(app, database, done, f"the schema is at {wanted().version}", database.clock.now() - began)
        app.next("schema status")
    return None


@schema.command()
@reaching
@click.option(
    "--schema-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of Temporal's fork, whose versions to apply; else those that tecs carries.",
)
@yes_option
@click.pass_obj
def update(app: App, endpoint: str | None, user: str, schema_dir: Path | None, *, yes: bool) -> None:
    """Apply the versions of the schema that are newer than the database's.

    All are read and checked before anything runs. Update the schema before the servers: older servers run on a newer
    schema, never the reverse.
    """
    from temporal_ecs.dsql import migrations
    from temporal_ecs.dsql import schema as temporal
    from temporal_ecs.dsql.temporal_schema import wanted

    versions = migrations.from_checkout(schema_dir) if schema_dir else migrations.carried(wanted())
    with app.database(endpoint, user) as database:
        app.talk.say(f"{app.where()}, database {database.target.host}")
        shards = app.config.temporal.history_shards
        newer = temporal.newer(database, versions, shards=shards)
        if not newer:
            return report(app, database, 0, "nothing to do: no newer version is known")
        steps = [step for version in newer for step in version.steps]
        app.talk.say(f"to apply: {', '.join(version.version for version in newer)}, {len(steps)} statements")
        app.confirm("Apply them?", yes=yes)
        began = database.clock.now()
        with app.changing("schema update") as take_lock, app.talk.progress(len(steps) + len(newer)) as emit:
            temporal.update(database, versions, shards=shards, emit=emit, before_write=take_lock, poll=app.poll)
        text = f"the schema is at {newer[-1].version}"
        report(app, database, len(steps), text, database.clock.now() - began)
    return None


def report(app: App, database: Database, statements: int, text: str, seconds: float = 0.0) -> None:
    from temporal_ecs.report import duration

    if app.talk.json:
        host = database.target.host
        app.talk.data({"endpoint": host, "statements": statements, "seconds": round(seconds, 3), "result": text})
    else:
        app.talk.show(text + (f", {statements} statements in {duration(seconds)}" if statements else ""))


def prove_stopped(app: App) -> None:
    """TecsError while a Temporal service of our cluster has a task; ECS is asked by name, whatever is recorded."""
    from temporal_ecs.ops.tasks import require_stopped

    require_stopped(app.aws, app.config.project)


def is_own(app: App, database: Database) -> bool:
    """Whether it is the database of this project's cluster, about whose tasks ECS can be asked."""
    recorded = app.state.get("dsql").get("outputs", {}).get("endpoint")
    return database.target.host in (app.config.dsql.endpoint, recorded)


def require_own(app: App, database: Database, option: str) -> None:
    """TecsError where ECS could only tell of another cluster than the one that uses this database."""
    if not is_own(app, database):
        raise ConfigError(
            f"{option} needs proof that nothing runs, and {database.target.host} is not this project's database",
            "Nothing was changed. Name it under [dsql] in the tecs.toml of the project that it belongs to.",
        )


# -- membership ------------------------------------------------------------------------------------------------


@click.command(cls=Command)
@reaching
@click.pass_obj
def membership(app: App, endpoint: str | None, user: str) -> None:
    """Show the ring's rows with a verdict each, against the running tasks. Reads only.

    live: heartbeat younger than 20 s. silent: younger than 5 min. stale: older. expired: past its 48 hours.
    foreign: outside the private subnets, or the address of another service's task. loopback: nobody else can reach
    it. duplicate: a younger row has the same address and port.
    """
    from temporal_ecs.dsql import cluster_metadata
    from temporal_ecs.dsql import membership as rows

    with app.database(endpoint, user) as database:
        ring, metadata = rows.read(database), cluster_metadata.read(database)
        tasks = running_tasks(app) if is_own(app, database) else None
    judged = rows.judge(ring, networks(app), tasks)
    missing = rows.without_row(ring, tasks or ())
    stored = metadata.shards if metadata else None
    if app.talk.json:
        app.talk.data(
            {
                "members": [data(row) for row in judged],
                "tasks_without_row": [task._asdict() for task in missing],
                "silence_seconds": ring.silence,
                "clock_skew_seconds": round(ring.skew, 3),
                "history_shards": stored,
            }
        )
    else:
        show_ring(app, judged)
        for task in missing:
            app.talk.show(f"{task.service} task {task.id} at {task.address} runs, but has no fresh row", "yellow")
        app.talk.show(f"history shards: {stored or 'not set before the first start of a server'}")
        if abs(ring.skew) > rows.FRESH:
            app.talk.say(f"this machine's clock is {ring.skew:+.0f} s off the database's", "yellow")
    cluster_metadata.refuse_other_shards(metadata, app.config.temporal.history_shards)


@click.command(cls=Command)
@reaching
@click.option(
    "--older-than", callback=seconds, metavar="D", help="The heartbeat's least age, like 90s or 5m; default 5m."
)
@click.option("--all", "everything", is_flag=True, help="Every row, when nothing runs and nobody writes for 60 s.")
@yes_option
@click.pass_obj
def clean_membership(
    app: App, endpoint: str | None, user: str, older_than: float | None, *, everything: bool, yes: bool
) -> None:
    """Delete stale rows of the ring: those whose heartbeat is older than a margin, on the database's clock.

    A row goes only as it was seen: whoever writes a heartbeat meanwhile stays. What went is kept in a file.
    """
    from temporal_ecs.dsql import cluster_metadata
    from temporal_ecs.dsql import membership as rows

    if everything and older_than is not None:
        raise ConfigError("--all and --older-than exclude each other", "Nothing was changed.")
    margin = rows.SILENCE if everything else rows.MARGIN if older_than is None else older_than
    rows.check_margin(margin)
    with app.database(endpoint, user) as database:
        app.talk.say(f"{app.where()}, database {database.target.host}")
        if everything:
            require_own(app, database, "--all")
            prove_all_stopped(app)
            rows.require_silence(database)
        ring = rows.read(database)
        rows.check_clocks(ring, margin)
        cluster_metadata.refuse_other_shards(cluster_metadata.read(database), app.config.temporal.history_shards)
        tasks = running_tasks(app) if is_own(app, database) else None
        doomed = list(ring.members) if everything else spare(app, ring.older_than(margin), tasks or ())
        if not doomed:
            return say_nothing_to_delete(app, ring, margin)
        if not app.talk.json:
            going = {member.host_id for member in doomed}
            show_ring(app, [row for row in rows.judge(ring, networks(app), tasks) if row.member.host_id in going])
        app.confirm(f"Delete these {len(doomed)} of {len(ring.members)} rows?", yes=yes)
        with app.changing("clean-membership") as take_lock:
            take_lock()
            if everything:
                prove_all_stopped(app)
                rows.require_silence(database)
            sweep(app, database, doomed, margin)
    return None


def spare(app: App, old: list[Member], tasks: Sequence[RingTask]) -> list[Member]:
    """Those of `old` that no running task can be: a live host whose clock is slow writes old heartbeats."""
    alive = {(task.service, task.address) for task in tasks if task.address}
    spared = [member for member in old if (member.service, member.address) in alive]
    for member in spared:
        app.talk.say(
            f"{member.service} at {member.address} stays: a task runs there; its host's clock may be slow", "yellow"
        )
    return [member for member in old if member not in spared]


def sweep(app: App, database: Database, doomed: Sequence[Member], margin: float) -> None:
    """Delete the rows, with the file about it, and say what came of it."""
    from temporal_ecs.dsql import membership as rows
    from temporal_ecs.dsql.journal import Journal
    from temporal_ecs.report import duration

    journal = Journal(app.state_path.parent, app.config.project, database.target.host, doomed, margin)
    began, finished = database.clock.now(), False
    try:
        gone = rows.delete(database, doomed, margin=margin, deleted=journal.deleted)
        finished = True
    finally:
        journal.close(finished=finished)
        if not finished:
            app.talk.say(f"what had been deleted until then: {journal.path}")
    took = database.clock.now() - began
    if app.talk.json:
        ids = [str(member.host_id) for member in gone]
        app.talk.data({"deleted": ids, "spared": len(doomed) - len(gone), "file": str(journal.path)})
        return
    app.talk.show(f"deleted {len(gone)} rows in {duration(took)}; they are in {journal.path}")
    if len(gone) < len(doomed):
        app.talk.show(f"{len(doomed) - len(gone)} rows had changed since they were read and stay")


def say_nothing_to_delete(app: App, ring: Ring, margin: float) -> None:
    if app.talk.json:
        app.talk.data({"deleted": [], "spared": 0, "file": None})
    else:
        app.talk.show(f"nothing to delete: none of {len(ring.members)} rows is older than {margin:.0f} s")


def prove_all_stopped(app: App) -> None:
    """TecsError unless ECS says that no Temporal task runs; without a cluster to ask there is no proof."""
    if not app.state.get("cluster").get("id"):
        raise TecsError(
            "--all needs proof that no Temporal task runs, and no ECS cluster is recorded here",
            "Nothing was changed. Run it where the stack's state is; or delete by age, without --all.",
        )
    prove_stopped(app)


def running_tasks(app: App) -> list[RingTask] | None:
    """The ring's tasks as ECS tells it; None where there is no cluster."""
    from temporal_ecs.ops.tasks import ring_tasks

    return ring_tasks(app.aws, app.config.project) if app.state.get("cluster").get("id") else None


def networks(app: App) -> list[IPv4Network]:
    """The private subnets, in which every task has its address."""
    return [IPv4Network(app.config.private_cidr(index)) for index in range(app.config.zone_count)]


def show_ring(app: App, judged: Sequence[Judged]) -> None:
    """Rows by service and verdict, then one by one, the youngest first."""
    from temporal_ecs.dsql.membership import counts
    from temporal_ecs.report import duration

    if not judged:
        app.talk.show("the ring has no rows")
        return
    app.talk.show("; ".join(f"{service}: {n} {verdict}" for (service, verdict), n in counts(judged).items()))
    youngest = sorted(judged, key=lambda row: (row.member.role, row.member.age is None, row.member.age or 0.0))
    app.talk.table(
        (
            (
                row.member.service,
                f"{row.member.address}:{row.member.port}",
                "none" if row.member.age is None else duration(max(0.0, row.member.age)),
                row.verdict,
                row.member.host_id,
                row.remark,
            )
            for row in youngest[:ROWS]
        ),
        ("service", "address", "heartbeat", "verdict", "host", ""),
    )
    if len(judged) > ROWS:
        app.talk.show(f"and {len(judged) - ROWS} more; -o json shows all")


def data(row: Judged) -> dict[str, Any]:
    """A row as JSON."""
    member = row.member
    return {
        "host_id": str(member.host_id),
        "service": member.service,
        "role": member.role,
        "address": member.address,
        "port": member.port,
        "heartbeat_age_seconds": member.age,
        "last_heartbeat": member.last_heartbeat and member.last_heartbeat.isoformat(),
        "record_expiry": member.record_expiry and member.record_expiry.isoformat(),
        "verdict": row.verdict,
        "remark": row.remark,
    }
