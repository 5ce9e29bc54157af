"""Who reaches whom, worked out from the rules in AWS alone: exactly what Temporal needs, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, NamedTuple

import pytest

from cloud import PROJECT, Project
from temporal_ecs.outputs import outputs

pytestmark = pytest.mark.xdist_group("reachability")

TEMPORAL = ("history", "matching", "frontend", "worker")
EVERYWHERE = IPv4Network("0.0.0.0/0")


class Flow(NamedTuple):
    source: str
    target: str
    port: int


def needed() -> set[Flow]:
    """Every connection that the stack needs."""
    ringpop = {"history": 6934, "matching": 6935, "frontend": 6933, "worker": 6939}
    flows = {Flow(source, target, ringpop[target]) for source in TEMPORAL for target in TEMPORAL}
    # Shards call each other, task queues forward to their parents, system workflows run against the frontend.
    callers = {
        ("history", 7234): ("frontend", "history", "matching", "worker"),
        ("matching", 7235): ("frontend", "history", "matching", "worker"),
        ("frontend", 7233): ("history", "worker", "ui", "benchmark"),
    }
    flows |= {Flow(source, *target) for target, sources in callers.items() for source in sources}
    flows |= {Flow("adot", target, 9090) for target in (*TEMPORAL, "benchmark")}
    flows |= {Flow(source, "opensearch", 443) for source in (*TEMPORAL, "setup")}
    # Images, logs, secrets, metrics, ECS itself: by the endpoints, or where there is none through NAT.
    everyone = (*TEMPORAL, "ui", "grafana", "adot", "benchmark", "setup", "hosts", "benchmark hosts")
    flows |= {Flow(source, target, 443) for source in everyone for target in ("endpoints", "internet")}
    flows |= {Flow(source, "internet", 5432) for source in (*TEMPORAL, "hosts", "benchmark hosts")}
    return flows


@dataclass(frozen=True)
class Party:
    """Something with network interfaces: its groups and the ranges that its addresses are in."""

    groups: frozenset[str]
    ranges: tuple[IPv4Network, ...]


class Rules:
    """The rules in AWS, read with plain boto3."""

    def __init__(self, project: Project) -> None:
        rows = project.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
        self.rows = [row for row in rows if row["IpProtocol"] in ("tcp", "-1")]

    def ports(self) -> set[int]:
        """Every port that a rule opens; 1 stands for all the others."""
        return {1} | {port for row in self.rows for port in (row["FromPort"], row["ToPort"]) if port > 0}

    def allow(self, egress: bool, owner: Party, peer: Party, port: int) -> bool:
        return any(
            row["IsEgress"] is egress
            and row["GroupId"] in owner.groups
            and (row["IpProtocol"] == "-1" or row["FromPort"] <= port <= row["ToPort"])
            and self._covers(row, peer)
            for row in self.rows
        )

    def _covers(self, row: dict[str, Any], peer: Party) -> bool:
        group = row.get("ReferencedGroupInfo", {}).get("GroupId")
        if group:
            return group in peer.groups
        allowed = IPv4Network(row["CidrIpv4"])
        return all(each.subnet_of(allowed) for each in peer.ranges)


def parties(project: Project) -> dict[str, Party]:
    """Who stands in the network, each with the groups that AWS says it carries."""
    ec2, ecs = project.client("ec2"), project.client("ecs")
    ours = [{"Name": "tag:tecs:project", "Values": [PROJECT]}]
    (vpc,) = ec2.describe_vpcs(Filters=ours)["Vpcs"]
    inside = (IPv4Network(vpc["CidrBlock"]),)
    by_name = {row["GroupName"]: row["GroupId"] for row in ec2.describe_security_groups(Filters=ours)["SecurityGroups"]}
    found = {"internet": Party(frozenset(), (EVERYWHERE,))}
    names = [f"{PROJECT}-temporal-{name}" for name in (*TEMPORAL, "ui")] + [f"{PROJECT}-grafana", f"{PROJECT}-adot"]
    for row in ecs.describe_services(cluster=f"{PROJECT}-cluster", services=names)["services"]:
        network = row["networkConfiguration"]["awsvpcConfiguration"]
        name = row["serviceName"].removeprefix(f"{PROJECT}-").removeprefix("temporal-")
        found[name] = Party(frozenset(network["securityGroups"]), inside)
    # Two tasks run without a service: what starts them gives them their own group alone.
    found["benchmark"] = Party(frozenset({by_name[f"{PROJECT}-benchmark"]}), inside)
    found["setup"] = Party(frozenset({by_name[f"{PROJECT}-opensearch-setup"]}), inside)
    for template, name in ((f"{PROJECT}-ecs", "hosts"), (f"{PROJECT}-benchmark", "benchmark hosts")):
        versions = ec2.describe_launch_template_versions(LaunchTemplateName=template, Versions=["$Latest"])
        (interface,) = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]["NetworkInterfaces"]
        found[name] = Party(frozenset(interface["Groups"]), inside)
    domain = project.client("opensearch").describe_domain(DomainName=f"{PROJECT}-visibility")["DomainStatus"]
    found["opensearch"] = Party(frozenset(domain["VPCOptions"]["SecurityGroupIds"]), inside)
    endpoints = {
        group["GroupId"] for row in ec2.describe_vpc_endpoints(Filters=ours)["VpcEndpoints"] for group in row["Groups"]
    }
    found["endpoints"] = Party(frozenset(endpoints), inside)
    return found


@pytest.fixture(scope="module")
def reached(provisioned: Project) -> set[Flow]:
    """Every pair and port that both sides' rules allow."""
    rules, all_parties = Rules(provisioned), parties(provisioned)
    outside = all_parties["internet"]
    return {
        Flow(source, target, port)
        for source, one in all_parties.items()
        for target, other in all_parties.items()
        for port in rules.ports()
        if (one is not outside or other is not outside)
        and (one is outside or rules.allow(True, one, other, port))
        and (other is outside or rules.allow(False, other, one, port))
    }


def test_what_temporal_needs_is_open(reached: set[Flow]):
    assert not needed() - reached


def test_nothing_else_is_open(reached: set[Flow]):
    assert not reached - needed()


def test_each_task_carries_one_group_and_no_two_parties_share_theirs(provisioned: Project):
    found = parties(provisioned)
    tasks = [name for name in found if name not in ("internet", "hosts", "benchmark hosts")]
    assert {len(found[name].groups) for name in tasks} == {1}
    assert len(frozenset().union(*(found[name].groups for name in tasks))) == len(tasks)
    assert found["hosts"] == found["benchmark hosts"]


def test_the_benchmark_and_the_set_up_are_told_to_carry_their_own_group(provisioned: Project):
    shown, by_name = outputs(provisioned.config, provisioned.state), parties(provisioned)
    for command, name in (("benchmark_run_command", "benchmark"), ("opensearch_setup_command", "setup")):
        (group,) = by_name[name].groups
        assert f"securityGroups=[{group}]" in shown[command]
