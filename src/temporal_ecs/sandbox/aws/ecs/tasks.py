"""Tasks: from PROVISIONING to STOPPED, each with an address of its own, and the process inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from temporal_ecs.sandbox.aws.ecs import deployments
from temporal_ecs.sandbox.aws.ecs.instances import Instance
from temporal_ecs.sandbox.aws.ecs.state import Cluster, Data, Service, Tagged, ecs, missing, name_of
from temporal_ecs.sandbox.world import Request, hex_id, moment, operation, page

KEPT = 3600
"""Seconds for which DescribeTasks still shows a stopped task (ECS API reference)."""


class Process(Protocol):
    """What runs in a task's container. Methods are called under the world's lock and return at once."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def healthy(self) -> bool: ...

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""

    @property
    def lines(self) -> list[str]:
        """What it logged."""


class Idle:
    """A process that runs until it is stopped."""

    healthy = True

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.lines: list[str] = ["started"]

    def start(self) -> None: ...

    def stop(self) -> None:
        self.exit_code = 0


MakeProcess = Callable[["Task"], Process]


@dataclass
class Task:
    """AWS's members in `data`; where it runs; the service that it belongs to; and its process."""

    data: Data
    definition: Data
    cluster: Cluster
    instance: Instance | None = None
    service: Service | None = None
    process: Process = field(default_factory=Idle)
    interface: Any = None

    @property
    def id(self) -> str:
        """The last part of its ARN."""
        return name_of(self.data["taskArn"])

    @property
    def status(self) -> str:
        """PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING or STOPPED."""
        return str(self.data["lastStatus"])

    @property
    def wanted(self) -> bool:
        """Whether it is to go on running."""
        return bool(self.data["desiredStatus"] == "RUNNING")

    @property
    def address(self) -> str:
        """Its private address, once it has one."""
        return str(self.interface.private_ip_address) if self.interface else ""

    @property
    def healthy(self) -> bool:
        """Whether it counts for a deployment: RUNNING, and HEALTHY where its container has a health check."""
        return self.status == "RUNNING" and self.wanted and self.data["healthStatus"] != "UNHEALTHY" and (
            self.data["healthStatus"] == "HEALTHY" or not checked(self.definition)
        )  # fmt: skip


def checked(definition: Data) -> bool:
    """Whether a container of the definition has a health check."""
    return any("healthCheck" in one for one in definition["containerDefinitions"])


def sizes(definition: Data) -> tuple[int, int]:
    """CPU units and MiB of a task."""
    return int(definition.get("cpu") or 0), int(definition.get("memory") or 0)


def begin(
    request: Request,
    cluster: Cluster,
    definition: Tagged,
    network: Data | None,
    *,
    instance: Instance | None,
    subnet: str,
    group: str,
    started_by: str,
    service: Service | None = None,
    overrides: Data | None = None,
) -> Task:
    """A new task on its way to RUNNING; its room on the instance is taken at once."""
    identifier, data = hex_id(32), definition.data
    task = Task({
        "taskArn": request.arn("ecs", f"task/{cluster.name}/{identifier}"),
        "clusterArn": cluster.data["clusterArn"],
        "taskDefinitionArn": data["taskDefinitionArn"],
        "group": group, "startedBy": started_by,
        "launchType": "EC2" if instance else "FARGATE",
        "cpu": data.get("cpu", ""), "memory": data.get("memory", ""),
        "desiredStatus": "RUNNING", "lastStatus": "PROVISIONING",
        "healthStatus": "UNKNOWN", "connectivity": "CONNECTED", "version": 1,
        "createdAt": moment(), "attachments": [], "attributes": [], "tags": [],
        "overrides": overrides or {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
        "enableExecuteCommand": bool(service and service.data["enableExecuteCommand"]),
        "containers": [
            {
                "containerArn": request.arn("ecs", f"container/{cluster.name}/{identifier}/{hex_id(32)}"),
                "taskArn": request.arn("ecs", f"task/{cluster.name}/{identifier}"),
                "name": one["name"], "image": one["image"], "lastStatus": "PENDING", "healthStatus": "UNKNOWN",
                "cpu": str(one.get("cpu", 0)), "networkInterfaces": [],
            }
            for one in data["containerDefinitions"]
        ],
    }, data, cluster, instance, service)  # fmt: skip
    if instance:
        task.data |= {
            "containerInstanceArn": instance.data["containerInstanceArn"],
            "availabilityZone": instance.zone,
            **({"capacityProviderName": instance.provider} if instance.provider else {}),
        }
        cpu, memory = sizes(data)
        instance.cpu, instance.memory, instance.slots = instance.cpu - cpu, instance.memory - memory, instance.slots - 1
        instance.tasks.add(identifier)
    cluster.tasks[identifier] = task
    request.after("task attach", lambda: _attach(request, task, network, subnet))
    return task


def _attach(request: Request, task: Task, network: Data | None, subnet: str) -> None:
    if task.status != "PROVISIONING":
        return
    if network:
        _plug(request, task, network, subnet)
    task.data["lastStatus"] = "PENDING"
    request.after("image pull", lambda: _pulled(request, task))


def _plug(request: Request, task: Task, network: Data, subnet: str) -> None:
    ec2 = request.backend("ec2")
    description = f"ECS task {task.id}"
    task.interface = ec2.create_network_interface(
        ec2.get_subnet(subnet), None, group_ids=network.get("securityGroups", []), description=description
    )
    task.data["attachments"] = [{
        "id": hex_id(32), "type": "ElasticNetworkInterface", "status": "ATTACHED",
        "details": [
            {"name": "subnetId", "value": subnet},
            {"name": "networkInterfaceId", "value": task.interface.id},
            {"name": "privateIPv4Address", "value": task.address},
        ],
    }]  # fmt: skip
    for one in task.data["containers"]:
        one["networkInterfaces"] = [{"attachmentId": task.data["attachments"][0]["id"],
                                     "privateIpv4Address": task.address}]  # fmt: skip


def _pulled(request: Request, task: Task) -> None:
    from temporal_ecs.sandbox.aws.ecs import scheduler

    if task.status != "PENDING":
        return
    if reason := _unpullable(request, task):
        task.data["containers"][0]["reason"] = reason
        stop(request, task, "TaskFailedToStart", reason)
        return
    task.data |= {"lastStatus": "RUNNING", "startedAt": moment(), "pullStoppedAt": moment()}
    for one in task.data["containers"]:
        one |= {"lastStatus": "RUNNING", "runtimeId": f"{task.id}-{hex_id(10)}"}
        if task.data["enableExecuteCommand"]:
            one["managedAgents"] = [{"name": "ExecuteCommandAgent", "lastStatus": "RUNNING",
                                     "lastStartedAt": moment()}]  # fmt: skip
    task.process = request.world.processes(task)
    task.process.start()
    _log(request, task)
    scheduler.schedule(request, task.cluster)
    _watch(request, task)


def _unpullable(request: Request, task: Task) -> str:
    """Why an image cannot be pulled: our own registry is looked into, others are believed."""
    for one in task.definition["containerDefinitions"]:
        host, _, rest = one["image"].partition("/")
        if not host.startswith(f"{request.account}.dkr.ecr."):
            continue
        name, _, tag = rest.partition("@") if "@" in rest else rest.partition(":")
        repository = request.backend("ecr").repositories.get(name)
        known = {
            tag
            for image in (repository.images if repository else ())
            for tag in (*image.image_tags, image.get_image_digest())
        }
        if tag not in known:
            return (
                f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
                f"{one['image']}: {one['image']}: not found"
            )
    return ""


def _watch(request: Request, task: Task) -> None:
    """Look at the process from time to time, as the agent does."""
    from temporal_ecs.sandbox.aws.ecs import scheduler

    if task.status != "RUNNING":
        return
    _log(request, task)
    if task.process.exit_code is not None:
        container = task.data["containers"][0]
        container |= {"lastStatus": "STOPPED", "exitCode": task.process.exit_code}
        stop(request, task, "EssentialContainerExited", "Essential container in task exited")
        return
    if checked(task.definition):
        before = task.data["healthStatus"]
        after = "HEALTHY" if task.process.healthy else "UNKNOWN" if before == "UNKNOWN" else "UNHEALTHY"
        if before != after:
            task.data["healthStatus"] = after
            for one in task.data["containers"]:
                one["healthStatus"] = after
            scheduler.schedule(request, task.cluster)
    request.world.clock.in_seconds(10, lambda: _watch(request, task), at_least=0.1)


def stop(request: Request, task: Task, code: str, reason: str) -> None:
    """Have it stop, and say why."""
    if not task.wanted:
        return
    task.data |= {"desiredStatus": "STOPPED", "stopCode": code, "stoppedReason": reason, "stoppingAt": moment()}
    task.data["lastStatus"] = "STOPPING"
    task.process.stop()
    request.after("task stop", lambda: _stopped(request, task))


def _stopped(request: Request, task: Task) -> None:
    from temporal_ecs.sandbox.aws.ecs import scheduler

    for one in task.data["containers"]:
        if one.get("runtimeId"):
            one.setdefault("exitCode", task.process.exit_code or 0)
        one["lastStatus"] = "STOPPED"
    task.data |= {"lastStatus": "DEPROVISIONING", "executionStoppedAt": moment()}
    if task.instance:
        cpu, memory = sizes(task.definition)
        task.instance.cpu += cpu
        task.instance.memory += memory
        task.instance.slots += 1
        task.instance.tasks.discard(task.id)
    request.after("task eni detach", lambda: _detached(request, task))
    task.data |= {"lastStatus": "STOPPED", "stoppedAt": moment()}
    request.world.clock.in_seconds(KEPT, lambda: task.cluster.tasks.pop(task.id, None), at_least=60)
    scheduler.ended(request, task)


def _detached(request: Request, task: Task) -> None:
    if task.interface:
        request.backend("ec2").enis.pop(task.interface.id, None)
        for attachment in task.data["attachments"]:
            attachment["status"] = "DELETED"


def _log(request: Request, task: Task) -> None:
    """Write what the process said into the container's log stream."""
    container = task.definition["containerDefinitions"][0]
    options = container.get("logConfiguration", {}).get("options", {})
    group = request.backend("logs").groups.get(options.get("awslogs-group", ""))
    if group is None or not task.process.lines:
        return
    stream = f"{options.get('awslogs-stream-prefix', 'ecs')}/{container['name']}/{task.id}"
    if stream not in group.streams:
        group.create_log_stream(stream)
    now = int(moment().timestamp() * 1000)
    lines = [{"timestamp": now, "message": line} for line in task.process.lines]
    task.process.lines.clear()
    group.put_log_events(stream, lines)


@operation("ecs", "ListTasks")
def list_tasks(request: Request) -> dict[str, Any]:
    """Those that are to run, unless `desiredStatus` asks for stopped ones."""
    cluster, params = ecs(request).cluster(request.params.get("cluster")), request.params
    wanted = {
        "desiredStatus": params.get("desiredStatus", "RUNNING"),
        **({"group": f"service:{name_of(params['serviceName'])}"} if "serviceName" in params else {}),
        **({"startedBy": params["startedBy"]} if "startedBy" in params else {}),
        **({"launchType": params["launchType"]} if "launchType" in params else {}),
    }
    arns = [
        task.data["taskArn"]
        for task in cluster.tasks.values()
        if wanted.items() <= task.data.items()
        and params.get("family", task.definition["family"]) == task.definition["family"]
        and name_of(params.get("containerInstance", "")) in ("", name_of(task.data.get("containerInstanceArn", "")))
    ]
    shown, token = page(arns, params, "maxResults", "nextToken", 100)
    return {"taskArns": shown, "nextToken": token}


@operation("ecs", "DescribeTasks")
def describe_tasks(request: Request) -> dict[str, Any]:
    """Also those that stopped within the hour."""
    cluster = ecs(request).cluster(request.params.get("cluster"))
    found, failures = [], []
    for reference in request.params["tasks"]:
        if task := cluster.tasks.get(name_of(reference)):
            found.append(task.data)
        else:
            failures.append(missing(request, f"task/{cluster.name}", reference))
    return {"tasks": found, "failures": failures}


@operation("ecs", "StopTask")
def stop_task(request: Request) -> dict[str, Any]:
    """A service's task is replaced."""
    cluster = ecs(request).cluster(request.params.get("cluster"))
    task = cluster.tasks.get(name_of(request.params["task"]))
    if task is None:
        raise deployments.refuse("The referenced task was not found.")
    stop(request, task, "UserInitiated", request.params.get("reason") or "Task stopped by user")
    return {"task": task.data}
