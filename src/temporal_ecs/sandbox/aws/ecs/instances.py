"""Container instances: the hosts of a cluster, which register themselves and leave with their EC2 instance."""

from __future__ import annotations

import contextlib
import re
from base64 import b64decode
from binascii import Error as NotBase64
from dataclasses import dataclass, field
from typing import Any

from temporal_ecs.sandbox.aws.ecs.state import Cluster, Data, ecs, missing, name_of
from temporal_ecs.sandbox.world import Fault, Request, hex_id, moment, operation, page

RESERVED = 700
"""MiB of an instance that its agent does not register: the kernel takes some before the agent looks. It is 3 to 6 % of
what the type promises; the figure is an estimate."""

INTERFACES = {
    "medium": (2, 4), "large": (3, 10), "xlarge": (4, 20), "2xlarge": (4, 40), "4xlarge": (8, 60), "8xlarge": (8, 60),
    "12xlarge": (8, 60), "16xlarge": (15, 120),
}  # fmt: skip
"""Of a Graviton size: network interfaces, and awsvpc tasks with trunking (ECS developer guide, "Supported instances for
increased container network interfaces")."""


@dataclass
class Instance:
    """A host: AWS's members in `data`, what is free in CPU units, MiB and places for network interfaces."""

    data: Data
    ec2_id: str
    cpu: int
    memory: int
    slots: int
    zone: str
    group: str  # ARN of its Auto Scaling group
    provider: str = ""
    tasks: set[str] = field(default_factory=set)  # ids

    @property
    def id(self) -> str:
        """The last part of its ARN."""
        return name_of(self.data["containerInstanceArn"])

    @property
    def active(self) -> bool:
        """Whether tasks may be placed on it."""
        return bool(self.data["status"] == "ACTIVE")


def cluster_of(user_data: Any) -> str:
    """The cluster that an instance's user data has its agent join; "" for none."""
    text = str(user_data or "")
    with contextlib.suppress(NotBase64, UnicodeDecodeError):
        text = b64decode(text, validate=True).decode()
    found = re.findall(r"^[^#]*\bECS_CLUSTER=[\"']?([\w-]+)", text, re.MULTILINE)
    return found[-1] if found else ""


def register(request: Request, instance: Any, user_data: str | None, group_arn: str) -> Cluster | None:
    """Have an instance that runs join the cluster of its user data, if there is one by then; which it was."""
    cluster = ecs(request).clusters.get(cluster_of(user_data))
    if cluster is None or not cluster.active or instance.state != "running":
        return None
    cpu, memory = capacity_of(instance.instance_type)
    trunking = ecs(request).settings.get("awsvpcTrunking") == "enabled"
    size = instance.instance_type.rpartition(".")[2]
    interfaces, trunked = INTERFACES.get(size, (4, 20))
    slots = trunked if trunking else interfaces - 1
    attributes = {
        "ecs.availability-zone": instance.placement.zone, "ecs.instance-type": instance.instance_type,
        "ecs.os-type": "linux", "ecs.cpu-architecture": "arm64", "ecs.ami-id": instance.image_id,
        **({"ecs.awsvpc-trunk-id": f"eni-{hex_id(17)}"} if trunking else {}),
    }  # fmt: skip
    made = Instance(
        {
            "containerInstanceArn": request.arn("ecs", f"container-instance/{cluster.name}/{hex_id(32)}"),
            "ec2InstanceId": instance.id,
            "version": 1,
            "status": "ACTIVE",
            "agentConnected": True,
            "registeredAt": moment(),
            "registeredResources": resources(cpu, memory),
            "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
            "attachments": [],
            "tags": [],
        },
        instance.id, cpu, memory, slots, instance.placement.zone, group_arn,
    )  # fmt: skip
    cluster.instances[made.id] = made
    associate(request, cluster)
    return cluster


def associate(request: Request, cluster: Cluster) -> None:
    """Tell the instances which of the cluster's capacity providers is theirs, whichever of the two came first."""
    for name in cluster.data["capacityProviders"]:
        known = ecs(request).provider(name)
        group = known.data.get("autoScalingGroupProvider", {}).get("autoScalingGroupArn") if known else None
        for one in cluster.instances.values():
            if one.group == group:
                one.provider = one.data["capacityProviderName"] = name


def leave(request: Request, ec2_id: str) -> list[tuple[Cluster, Instance]]:
    """Take the instances of a terminated host out of their clusters; which they were."""
    gone = [
        (cluster, one)
        for cluster in ecs(request).clusters.values()
        for one in cluster.instances.values()
        if one.ec2_id == ec2_id
    ]
    for cluster, one in gone:
        one.data |= {"status": "INACTIVE", "agentConnected": False}
        del cluster.instances[one.id]
    return gone


def capacity_of(instance_type: str) -> tuple[int, int]:
    """CPU units, and the MiB that the agent registers."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    known = INSTANCE_TYPES[instance_type]
    return 1024 * known["VCpuInfo"]["DefaultVCpus"], known["MemoryInfo"]["SizeInMiB"] - RESERVED


def resources(cpu: int, memory: int) -> list[Data]:
    """As ECS lists them."""
    return [
        {"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": memory},
        {"name": "PORTS", "type": "STRINGSET", "doubleValue": 0.0, "longValue": 0, "integerValue": 0,
         "stringSetValue": ["22", "2376", "2375", "51678", "51679"]},
    ]  # fmt: skip


@operation("ecs", "ListContainerInstances")
def list_container_instances(request: Request) -> dict[str, Any]:
    """ACTIVE and DRAINING ones, or those of one status."""
    cluster, params = ecs(request).cluster(request.params.get("cluster")), request.params
    if "filter" in params:
        raise Fault("NotImplemented", "not in the sandbox: the cluster query language", 501)
    arns = [
        one.data["containerInstanceArn"]
        for one in cluster.instances.values()
        if params.get("status", one.data["status"]) == one.data["status"]
    ]
    shown, token = page(arns, params, "maxResults", "nextToken", 100)
    return {"containerInstanceArns": shown, "nextToken": token}


@operation("ecs", "DescribeContainerInstances")
def describe_container_instances(request: Request) -> dict[str, Any]:
    """What is registered, what is left of it, and how many tasks run."""
    cluster = ecs(request).cluster(request.params.get("cluster"))
    found, failures = [], []
    for reference in request.params["containerInstances"]:
        if one := cluster.instances.get(name_of(reference)):
            found.append(shown(cluster, one))
        else:
            failures.append(missing(request, f"container-instance/{cluster.name}", reference))
    return {"containerInstances": found, "failures": failures}


@operation("ecs", "UpdateContainerInstancesState")
def update_container_instances_state(request: Request) -> dict[str, Any]:
    """DRAINING: no new tasks, and those of services move away; ACTIVE again."""
    from temporal_ecs.sandbox.aws.ecs import scheduler

    cluster = ecs(request).cluster(request.params.get("cluster"))
    found, failures = [], []
    for reference in request.params["containerInstances"]:
        if one := cluster.instances.get(name_of(reference)):
            one.data["status"] = request.params["status"]
            found.append(shown(cluster, one))
        else:
            failures.append(missing(request, f"container-instance/{cluster.name}", reference))
    scheduler.schedule(request, cluster)
    return {"containerInstances": found, "failures": failures}


@operation("ecs", "DeregisterContainerInstance")
def deregister_container_instance(request: Request) -> dict[str, Any]:
    """Refused while tasks run on it, unless forced; then they are orphaned, and their services start others."""
    from temporal_ecs.sandbox.aws.ecs import scheduler

    cluster = ecs(request).cluster(request.params.get("cluster"))
    one = cluster.instances.get(name_of(request.params["containerInstance"]))
    if one is None:
        raise Fault("InvalidParameterException", "Referenced container instance not found.")
    if one.tasks and not request.params.get("force"):
        raise Fault("InvalidParameterException", "Found running tasks on the instance.")
    leave(request, one.ec2_id)
    scheduler.lost(request, cluster, one)
    return {"containerInstance": shown(cluster, one)}


def shown(cluster: Cluster, one: Instance) -> Data:
    """A container instance as ECS shows it."""
    tasks = [cluster.tasks[each] for each in one.tasks if each in cluster.tasks]
    running = sum(task.data["lastStatus"] == "RUNNING" for task in tasks)
    return one.data | {
        "remainingResources": resources(one.cpu, one.memory),
        "runningTasksCount": running,
        "pendingTasksCount": len(tasks) - running,
    }
