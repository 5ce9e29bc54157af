"""The service scheduler: places tasks, replaces those that end, rolls deployments, and asks for capacity.

It has no thread: whatever changes calls `schedule`, and what takes time is queued on the sandbox's clock.
"""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import Any

from temporal_ecs.sandbox.aws.ecs import deployments, tasks
from temporal_ecs.sandbox.aws.ecs.instances import Instance
from temporal_ecs.sandbox.aws.ecs.state import Cluster, Data, Service, Tagged, ecs, name_of
from temporal_ecs.sandbox.aws.ecs.tasks import Task
from temporal_ecs.sandbox.world import Request, moment, operation

RETRIES = (1, 10, 60, 300, 900)
"""Seconds between attempts to start tasks that never reached RUNNING; ECS widens them to at most 15 minutes."""

STEADY_RESTART = 1.0
"""Seconds until a task that had been RUNNING is replaced: ECS does not slow these down."""


def schedule(request: Request, cluster: Cluster) -> None:
    """Bring every service of the cluster nearer to what is wanted."""
    for service in cluster.services.values():
        if service.status != "INACTIVE":
            _reconcile(request, cluster, service)


def of(cluster: Cluster, service: Service) -> list[Task]:
    """The service's tasks that have not stopped."""
    return [t for t in cluster.tasks.values() if t.service is service and t.status != "STOPPED"]


def _reconcile(request: Request, cluster: Cluster, service: Service) -> None:
    data = service.data
    primary = data["deployments"][0] if data["deployments"] else None
    live = [task for task in of(cluster, service) if task.wanted]
    wanted = data["desiredCount"]
    if primary is None or service.status == "DRAINING":
        for task in live:
            tasks.stop(request, task, "ServiceSchedulerInitiated", "Scaling activity initiated by deployment")
        _count(cluster, service)
        return
    percents = data["deploymentConfiguration"]
    least = ceil(wanted * percents["minimumHealthyPercent"] / 100)
    most = max(wanted * percents["maximumPercent"] // 100, 0)
    new = [task for task in live if _current(task, primary)]
    old = [task for task in live if not _current(task, primary)]
    for task in _surplus(new, len(new) + min(len(old), 0) - wanted):
        new.remove(task)
        tasks.stop(request, task, "ServiceSchedulerInitiated", _scaling(primary))
    _start(request, cluster, service, primary, min(wanted - len(new), most - len(new) - len(old)))
    healthy = sum(task.healthy for task in of(cluster, service) if task.wanted)
    for task in sorted(old, key=lambda one: one.healthy):
        spare = healthy - least if task.healthy else 1
        if spare > 0:
            healthy -= task.healthy
            tasks.stop(request, task, "ServiceSchedulerInitiated", _scaling(primary))
    _count(cluster, service)
    _complete(cluster, service, primary)


def _scaling(primary: Data) -> str:
    return f"Scaling activity initiated by (deployment {primary['id']})"


def _current(task: Task, primary: Data) -> bool:
    """Whether a task is one of the primary deployment, on a host that may keep it."""
    return task.data["startedBy"] == primary["id"] and bool(task.instance is None or task.instance.active)


def _surplus(new: list[Task], many: int) -> list[Task]:
    """The tasks to stop when fewer are wanted: unhealthy ones first, then from the fullest zone."""
    zones = Counter(task.data.get("availabilityZone") for task in new)
    ordered = sorted(new, key=lambda one: (one.healthy, -zones[one.data.get("availabilityZone")], one.id))
    return ordered[: max(many, 0)]


def _start(request: Request, cluster: Cluster, service: Service, primary: Data, many: int) -> None:
    """Start tasks as far as there is room; what has none waits for capacity."""
    service.waiting = 0
    if many <= 0 or service.held:
        service.waiting = max(many, 0)
        return
    definition = ecs(request).definition(primary["taskDefinition"])
    if definition is None:
        return
    network = (service.data.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    for left in range(many, 0, -1):
        instance, why = place(cluster, service.data, definition)
        if instance is None:
            service.waiting = left
            _unplaced(request, cluster, service, why, left)
            return
        tasks.begin(
            request, cluster, definition, network, instance=instance,
            subnet=_subnet(request, network, instance.zone),
            group=f"service:{service.data['serviceName']}", started_by=primary["id"], service=service,
        )  # fmt: skip
    deployments.event(service, f"(service {service.data['serviceName']}) has started {many} tasks.")


def place(cluster: Cluster, service: Data, definition: Tagged) -> tuple[Instance | None, str]:
    """Where the next task goes by the service's placement strategy; or no place, and what is missing."""
    cpu, memory = tasks.sizes(definition.data)
    providers = {name_of(one["capacityProvider"]) for one in service.get("capacityProviderStrategy") or ()}
    open_ = [one for one in cluster.instances.values() if one.active and (not providers or one.provider in providers)]
    if not open_:
        return None, "No Container Instances were found in your capacity provider"
    short = {
        "RESOURCE:CPU": [one for one in open_ if one.cpu < cpu],
        "RESOURCE:MEMORY": [one for one in open_ if one.memory < memory],
        "RESOURCE:ENI": [one for one in open_ if one.slots < 1],
    }
    fitting = [one for one in open_ if all(one not in lacking for lacking in short.values())]
    if not fitting:
        most = max(short, key=lambda reason: len(short[reason]))
        return None, most
    zones, hosts = Counter[str](), Counter[str]()
    for one in cluster.instances.values():
        for identifier in one.tasks:
            task = cluster.tasks.get(identifier)
            if task and task.data["group"] == f"service:{service['serviceName']}":
                zones[one.zone] += 1
                hosts[one.id] += 1
    return min(fitting, key=lambda one: (zones[one.zone], hosts[one.id], -one.memory, one.id)), ""


def _subnet(request: Request, network: Data | None, zone: str) -> str:
    """The service's subnet in the zone of the host: an interface cannot leave its zone. "" outside awsvpc."""
    if network is None:
        return ""
    ec2 = request.backend("ec2")
    subnets: list[str] = network["subnets"]
    return next((s for s in subnets if ec2.get_subnet(s).availability_zone == zone), subnets[0])


_EXPLAINED = {
    "RESOURCE:CPU": "no container instance met all of its requirements. The closest matching container-instance has "
    "insufficient CPU units available.",
    "RESOURCE:MEMORY": "no container instance met all of its requirements. The closest matching container-instance has "
    "insufficient memory available.",
    "RESOURCE:ENI": "no container instance met all of its requirements. The closest matching container-instance "
    'encountered error "Not enough available ENI attachment points".',
}


def _unplaced(request: Request, cluster: Cluster, service: Service, why: str, left: int) -> None:
    """Say so among the events, once for each reason, and ask the capacity provider for hosts."""
    name = service.data["serviceName"]
    text = f"(service {name}) was unable to place a task because {_EXPLAINED.get(why, why + '.')}"
    events = service.data["events"]
    if not events or events[0]["message"] != text:
        deployments.event(service, text)
    for one in service.data.get("capacityProviderStrategy") or ():
        ask_for_capacity(request, cluster, name_of(one["capacityProvider"]), left)


def ask_for_capacity(request: Request, cluster: Cluster, provider: str, left: int) -> None:
    """Managed scaling: as many more hosts as the waiting tasks need, two at least from zero, within the group's
    bounds. Network interfaces count, CPU and memory don't: a second look follows when the hosts are there."""
    from temporal_ecs.sandbox.aws.autoscaling import capacity
    from temporal_ecs.sandbox.aws.autoscaling.state import Scaling

    known = ecs(request).provider(provider)
    settings = known.data.get("autoScalingGroupProvider", {}) if known else {}
    if settings.get("managedScaling", {}).get("status") != "ENABLED":
        return
    groups = request.state(Scaling).groups.values()
    group = next((g for g in groups if g.data["AutoScalingGroupARN"] == settings["autoScalingGroupArn"]), None)
    if group is None or group.data.get("Status"):
        return
    here = [one for one in cluster.instances.values() if one.provider == provider]
    coming = len(group.staying()) - len(here)
    slots = max((one.slots + len(one.tasks) for one in here), default=3)
    needed = max(ceil(left / max(slots, 1)), 0 if here or coming else 2) - coming
    wanted = min(group.data["DesiredCapacity"] + max(needed, 0), group.data["MaxSize"])
    if wanted > group.data["DesiredCapacity"]:
        group.data["DesiredCapacity"] = wanted
        capacity.reconcile(request, group)


def ended(request: Request, task: Task) -> None:
    """A task has stopped: count it, hold the next start back if it never ran, and go on."""
    service, cluster = task.service, task.cluster
    if service is not None and task.data["stopCode"] in ("TaskFailedToStart", "EssentialContainerExited"):
        started = bool(task.data.get("startedAt"))
        for deployment in service.data["deployments"]:
            if deployment["id"] == task.data["startedBy"]:
                deployment["failedTasks"] += 1
        pause = STEADY_RESTART if started else RETRIES[min(service.failures, len(RETRIES) - 1)]
        service.failures = 0 if started else service.failures + 1
        if not started:
            name = service.data["serviceName"]
            deployments.event(service, f"(service {name}) was unable to start tasks: {task.data['stoppedReason']}")
        _hold(request, cluster, service, pause)
    schedule(request, cluster)


def _hold(request: Request, cluster: Cluster, service: Service, seconds: float) -> None:
    if service.held:
        return
    service.held = True

    def go_on() -> None:
        service.held = False
        schedule(request, cluster)

    request.world.clock.in_seconds(seconds, go_on, at_least=min(seconds, 0.2))


def lost(request: Request, cluster: Cluster, instance: Instance) -> None:
    """A host is gone, and its tasks with it."""
    for identifier in list(instance.tasks):
        if task := cluster.tasks.get(identifier):
            tasks.stop(request, task, "TerminationNotice", f"Host EC2 (instance {instance.ec2_id}) terminated.")
    schedule(request, cluster)


def _count(cluster: Cluster, service: Service) -> None:
    """Bring the counts of the service and of its deployments up to date; deployments without tasks end."""
    data, live = service.data, of(cluster, service)
    primary_id = data["deployments"][0]["id"] if data["deployments"] else ""
    data["runningCount"] = sum(t.status == "RUNNING" for t in live)
    data["pendingCount"] = sum(t.status in ("PROVISIONING", "PENDING", "ACTIVATING") for t in live) + service.waiting
    for deployment in list(data["deployments"]):
        mine = [t for t in live if t.data["startedBy"] == deployment["id"]]
        running = sum(t.status == "RUNNING" for t in mine)
        pending = sum(t.status in ("PROVISIONING", "PENDING", "ACTIVATING") for t in mine)
        is_primary = deployment["id"] == primary_id
        deployment |= {
            "desiredCount": data["desiredCount"] if is_primary else len([t for t in mine if t.wanted]),
            "runningCount": running,
            "pendingCount": pending + (service.waiting if is_primary else 0),
        }
        if not is_primary and not mine:
            data["deployments"].remove(deployment)


def _complete(cluster: Cluster, service: Service, primary: Data) -> None:
    """The deployment is completed when it alone is left, with every task healthy."""
    live = of(cluster, service)
    new = [t for t in live if t.wanted and _current(t, primary)]
    rest = [t for t in live if t.wanted and not _current(t, primary)]
    if rest or len(new) != service.data["desiredCount"] or not all(t.healthy for t in new):
        service.steady = False
        return
    if primary["rolloutState"] != "COMPLETED":
        primary |= {
            "rolloutState": "COMPLETED",
            "rolloutStateReason": f"ECS deployment {primary['id']} completed.",
            "updatedAt": moment(),
        }
    if not service.steady:
        service.steady = True
        deployments.event(service, f"(service {service.data['serviceName']}) has reached a steady state.")


@operation("ecs", "RunTask")
def run_task(request: Request) -> dict[str, Any]:
    """Standalone tasks: on the hosts of a capacity provider or of the cluster, or on Fargate."""
    params, cluster = request.params, ecs(request).cluster(request.params.get("cluster"))
    definition = deployments.definition_of(request, params["taskDefinition"])
    network = (params.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    if definition.data.get("networkMode") == "awsvpc" and not network:
        raise deployments.refuse("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    deployments.check(request, cluster, params, definition)
    group = params.get("group", f"family:{definition.data['family']}")
    made, failures = [], []
    for _ in range(params.get("count", 1)):
        fargate = params.get("launchType") == "FARGATE"
        instance, why = (None, "") if fargate else place(cluster, {**params, "serviceName": ""}, definition)
        if instance is None and not fargate:
            for one in params.get("capacityProviderStrategy") or ():
                ask_for_capacity(request, cluster, name_of(one["capacityProvider"]), 1)
            arn = next((one.data["containerInstanceArn"] for one in cluster.instances.values()), "")
            failures.append({"arn": arn, "reason": why if why.startswith("RESOURCE:") else "RESOURCE:CPU"})
            continue
        subnet = _subnet(request, network, instance.zone if instance else "")
        made.append(tasks.begin(
            request, cluster, definition, network, instance=instance, subnet=subnet, group=group,
            started_by=params.get("startedBy", ""), overrides=params.get("overrides"),
        ))  # fmt: skip
    return {"tasks": [task.data for task in made], "failures": failures}
