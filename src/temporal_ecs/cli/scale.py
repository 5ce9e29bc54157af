"""scale up, scale down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from temporal_ecs.errors import ConfigError, TecsError

from .app import App, Group
from .dsql import yes_option

if TYPE_CHECKING:
    from temporal_ecs.config import Config
    from temporal_ecs.dsql.database import Database
    from temporal_ecs.ops.scale import Scaler, Step

UNPUBLISHED = ":unpublished"


def complete_services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    from temporal_ecs.services import SERVICES

    return [f"{name}=" for name in SERVICES if name.startswith(incomplete)]


def counted(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, int]:  # noqa: ARG001
    """SERVICE=N words by service."""
    from temporal_ecs.services import SERVICES
    from temporal_ecs.stack import near

    counts: dict[str, int] = {}
    for word in value:
        found = re.fullmatch(r"([\w-]+)=(\d{1,3})", word)
        if found is None or int(found[2]) > 199:  # where surge() is exactly one task
            raise click.BadParameter(f"{word!r} is not like history=4, with a number from 0 to 199", param=param)
        if found[1] not in SERVICES:
            raise click.BadParameter(f"unknown service {found[1]!r}{near(found[1], SERVICES)}", param=param)
        counts[found[1]] = int(found[2])
    return counts


counts_argument = click.argument(
    "counts", nargs=-1, metavar="[SERVICE=N]...", callback=counted, shell_complete=complete_services
)


@click.group(cls=Group)
def scale() -> None:
    """Start or stop the services in order, each step proven before the next."""


@scale.command()
@counts_argument
@click.option("--wps", type=int, metavar="N", help="Sizes and counts for so many workflows per second.")
@click.option("--instances", type=click.IntRange(1, 20), metavar="N", help="Have so many hosts first.")
@yes_option
@click.pass_obj
def up(app: App, counts: dict[str, int], wps: int | None, instances: int | None, *, yes: bool) -> None:
    """Start history, matching, frontend, worker, then ui, grafana and the collector.

    Without words as many tasks as tecs.toml says, with its sizes; with SERVICE=N those services alone. Each step waits
    until ECS has completed it, every task is healthy, and the ring has a fresh row for each. Other task sizes come by
    new revisions, one task at a time, never through zero. Can be cut at any moment and run again.
    """
    from temporal_ecs.ops import placement, scale

    if counts and wps is not None:
        raise ConfigError("--wps and SERVICE=N exclude each other", "Nothing was changed.")
    preset = placement.preset_for(wps) if wps is not None else None
    config = app.sized if counts else app.config.sized(preset)
    wanted = counts or {name: service.count for name, service in config.services.items()}
    app.talk.say(app.where() + (f", preset {preset}" if preset else ""))
    require_services(app)
    check_places(app, config, wanted, instances)
    check_images(app, config, wanted)
    with app.database(None, "admin") as database:
        check_schema(app, database)
        show_counts(app, wanted)
        app.confirm("Start them?", yes=yes)
        with app.changing("scale up") as take_lock:
            take_lock()
            if instances is not None:
                have_hosts(app, instances)
            if not counts:
                resize(app, preset)
            todo = scale.steps(wanted, revisions(app, wanted), up=True)
            run(app, todo, database)
    app.next("status")


@scale.command()
@counts_argument
@yes_option
@click.pass_obj
def down(app: App, counts: dict[str, int], *, yes: bool) -> None:
    """Stop the services, callers first: the collector, Grafana, UI, worker, frontend, matching, history.

    With SERVICE=N those services alone. Tasks end as their deployment drains; hosts leave about 15 minutes later, by
    managed scaling. Data stays.
    """
    from temporal_ecs.ops import scale
    from temporal_ecs.services import SERVICES

    app.talk.say(app.where())
    require_services(app)
    wanted = counts or dict.fromkeys(SERVICES, 0)
    show_counts(app, wanted)
    app.confirm("Stop them?", yes=yes)
    with app.changing("scale down") as take_lock:
        take_lock()
        run(app, scale.steps(wanted, up=False), None)
    app.next("scale up")


# -- before anything is changed --------------------------------------------------------------------------------


def require_services(app: App) -> None:
    if not app.state.get("cluster").get("id"):
        raise TecsError("no cluster is recorded here", "Make the stack with `tecs provision`, or `tecs state rebuild`.")


def check_places(app: App, config: Config, wanted: Mapping[str, int], instances: int | None) -> None:
    """TecsError when the tasks cannot be placed; warnings are said."""
    from dataclasses import replace

    from temporal_ecs.ops import fleet, placement

    running = {name: state.wanted for name, state in fleet.services(app.aws, config.project).items()}
    sized = {name: replace(own, count=wanted.get(name, running[name])) for name, own in config.services.items()}
    kind = placement.INSTANCE_TYPES.get(config.instances.type)
    if kind is None:
        app.talk.say(f"{config.instances.type} is not in tecs's table: whether the tasks fit was not checked", "yellow")
        return
    trunking = any(
        setting["value"] == "enabled"
        for setting in app.aws.ecs.list_account_settings(name="awsvpcTrunking", effectiveSettings=True)["settings"]
    )
    count = instances or config.instances.count
    found = placement.check(
        placement.needs(sized), placement.planned(kind, count, zones=config.zone_count, trunking=trunking)
    )
    if refused := placement.refusal(found):
        raise TecsError(refused.message, f"Nothing was changed. {refused.hint}")
    for text in placement.warnings(found):
        app.talk.say(text, "yellow")


def check_images(app: App, config: Config, wanted: Mapping[str, int]) -> None:
    """TecsError while a service that is to run has no image yet."""
    from temporal_ecs.services import SERVICES

    lacking = [
        name
        for name, count in wanted.items()
        if count and UNPUBLISHED in image_of(app, SERVICES[name].title) and not declared_image(config, name)
    ]
    if lacking:
        raise TecsError(
            f"no image was published for {', '.join(lacking)}",
            "Nothing was changed. Push one to its repository and name it under [images] in tecs.toml.",
        )


def image_of(app: App, title: str) -> str:
    """The image that a service's newest revision names; "" when there is none."""
    from temporal_ecs.errors import code

    family = f"{app.config.project}-{title}"
    try:
        found = app.aws.ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    except Exception as error:
        if code(error) != "ClientException":
            raise
        return ""
    return str(found["containerDefinitions"][0]["image"])


def declared_image(config: Config, service: str) -> str:
    """The image that tecs.toml names for a service, "" for none."""
    images = config.images
    return {"ui": images.ui, "adot": images.adot, "grafana": images.grafana}.get(service, images.temporal)


def check_schema(app: App, database: Database) -> None:
    """TecsError when servers could not start on this database."""
    from temporal_ecs.dsql import schema

    found = schema.status(database, shards=app.config.temporal.history_shards)
    if not found.version:
        raise TecsError(
            "the database has no schema: every Temporal server would end at its start",
            "Nothing was changed. Run `tecs schema setup` first.",
        )
    if found.shards is not None and found.shards != app.config.temporal.history_shards:
        raise TecsError(
            f"the database was started with {found.shards} history shards, tecs.toml says otherwise",
            f"Nothing was changed. Set temporal.history_shards = {found.shards}.",
        )


def show_counts(app: App, wanted: Mapping[str, int]) -> None:
    from temporal_ecs.ops import fleet

    now = fleet.services(app.aws, app.config.project)
    app.talk.say("; ".join(f"{name} {now[name].wanted} → {count}" for name, count in wanted.items()))


# -- the work --------------------------------------------------------------------------------------------------


def have_hosts(app: App, instances: int) -> None:
    """Set the group's desired capacity, within its bounds."""
    name = f"{app.config.project}-ecs-asg"
    group = app.aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]
    if not group["MinSize"] <= instances <= group["MaxSize"]:
        raise TecsError(
            f"--instances {instances}: the group takes {group['MinSize']} to {group['MaxSize']}",
            "Nothing was changed. Set instances.count in tecs.toml and run `tecs provision compute`.",
        )
    if group["DesiredCapacity"] != instances:
        app.aws.autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=instances)


def resize(app: App, preset: int | None) -> None:
    """Record the preset, and have the task definitions say its sizes: the same way as `provision` makes them."""
    from temporal_ecs.services import SERVICES

    app.state.preset = preset
    for made in ("stack", "engine"):  # they hold the sizes of before
        app.__dict__.pop(made, None)
    names = [f"{service.title}-task" for service in SERVICES.values()]
    result = app.engine.provision(names)
    for error in result.errors.values():
        raise error
    if result.stop is not None:
        raise result.stop


def revisions(app: App, wanted: Mapping[str, int]) -> dict[str, str]:
    """The newest revision of each service's family, by the state."""
    from temporal_ecs.services import SERVICES

    known = {name: app.state.get(f"{SERVICES[name].title}-task").get("id") for name in wanted}
    return {name: id_ for name, id_ in known.items() if id_}


def run(app: App, todo: list[Step], database: Database | None) -> None:
    """Take the steps, with progress, and say what came of them."""
    from temporal_ecs.ops.scale import Scaler
    from temporal_ecs.report import duration

    began = app.clock.now()
    with app.talk.progress(len(todo)) as emit:
        scaler: Scaler = Scaler(
            app.aws,
            app.config.project,
            fresh=fresh_members(database) if database else None,
            emit=emit,
            clock=app.clock,
        )
        done = scaler.take(todo)
    took = app.clock.now() - began
    if app.talk.json:
        app.talk.data({"services": done, "seconds": round(took, 3)})
    else:
        app.talk.show(f"{', '.join(f'{name} {outcome}' for name, outcome in done.items())} in {duration(took)}")


def fresh_members(database: Database) -> Any:
    """What reads service and address of each member with a fresh heartbeat."""
    from temporal_ecs.dsql import membership

    def read() -> set[tuple[str, str]]:
        ring = membership.read(database)
        return {(m.service, m.address) for m in ring.members if m.age is not None and m.age < membership.FRESH}

    return read
