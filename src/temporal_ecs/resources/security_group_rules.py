"""Who may talk to whom, on which port. One table of flows makes both ends' rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from temporal_ecs.resource import Live, Ref, Resource, plain
from temporal_ecs.services import FRONTEND_GRPC, METRICS, SERVICES, TEMPORAL

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

ANYWHERE = "0.0.0.0/0"
Rule = dict[str, Any]


class Flow(NamedTuple):
    """`source` opens connections to `target` on a TCP port. Either may be a range instead of a group."""

    source: str
    target: str
    port: int
    why: str


def flows(vpc_cidr: str) -> Iterator[Flow]:
    """Every connection that the stack needs, and no other."""
    ports = {service.title: service for service in TEMPORAL}
    for source in ports:
        for target, service in ports.items():
            assert service.membership is not None
            yield Flow(source, target, service.membership, "ringpop membership")
    for source, target in (
        ("temporal-frontend", "temporal-history"),
        ("temporal-frontend", "temporal-matching"),
        ("temporal-history", "temporal-history"),
        ("temporal-history", "temporal-matching"),
        ("temporal-history", "temporal-frontend"),
        ("temporal-matching", "temporal-history"),
        ("temporal-matching", "temporal-matching"),
        ("temporal-worker", "temporal-frontend"),
        ("temporal-worker", "temporal-history"),
        ("temporal-worker", "temporal-matching"),
    ):
        grpc = ports[target].grpc
        assert grpc is not None
        yield Flow(source, target, grpc, "gRPC")
    for client in (SERVICES["ui"].title, "benchmark"):
        yield Flow(client, "temporal-frontend", FRONTEND_GRPC, "gRPC")
    for target in (*ports, "benchmark"):
        yield Flow("adot", target, METRICS, "Prometheus scrape")
    for source in ports:
        yield Flow(source, ANYWHERE, 443, "AWS APIs, OpenSearch, image pulls")
        yield Flow(source, ANYWHERE, 5432, "Aurora DSQL")
        yield Flow(source, "opensearch", 443, "visibility")
    for source in ("temporal-ui", "grafana", "adot", "benchmark", "ecs-instances", "opensearch-setup"):
        yield Flow(source, ANYWHERE, 443, "AWS APIs, image pulls")
    yield Flow("ecs-instances", ANYWHERE, 5432, "Aurora DSQL")
    yield Flow("opensearch-setup", "opensearch", 443, "schema set-up")
    yield Flow("opensearch-setup", "vpc-endpoints", 443, "ECR, Logs and SSM endpoints")
    yield Flow(vpc_cidr, "vpc-endpoints", 443, "interface endpoints")


@dataclass(frozen=True, kw_only=True)
class SecurityGroupRules(Resource):
    """All rules of one group: AWS takes them in one call for each direction.

    A rule is {direction, protocol, from, to, peer, description}. The rules tell apart by everything but
    their description. The automatic allow-all egress of a new group is one too many and goes.
    """

    security_group: str | Ref
    rules: tuple[Rule, ...]

    group = "security"
    listing = "security-groups"
    tagging = None
    absent = frozenset({"InvalidGroup.NotFound", "InvalidSecurityGroupRuleId.NotFound", "InvalidPermission.NotFound"})
    exists = frozenset({"InvalidPermission.Duplicate"})
    mutable = frozenset({"rules"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002, ARG002
        """The group's rules, in our order; None when it has none but the automatic one."""
        filters = [{"Name": "tag:tecs:project", "Values": [aws.project]}]
        for row in aws.rows(self, "ec2", "describe_security_groups", "SecurityGroups", Filters=filters):
            if row["GroupId"] == self.security_group:
                found = [*_rules(row["IpPermissions"], "in"), *_rules(row["IpPermissionsEgress"], "out")]
                wanted = [_key(rule) for rule in self.rules]
                found.sort(key=lambda rule: wanted.index(_key(rule)) if _key(rule) in wanted else len(wanted))
                if all(_automatic(rule) for rule in found):
                    return None
                return {"id": self.security_group, "security_group": self.security_group, "rules": found}
        return None

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        self._authorize(aws, self.rules)
        return str(self.security_group)

    def update(self, aws: Aws, live: Live, changed: set[str]) -> None:  # noqa: ARG002
        """Open what is missing, correct descriptions, then close what is too many."""
        now = {_key(rule): rule for rule in live["rules"]}
        wanted = {_key(rule): rule for rule in self.rules}
        self._authorize(aws, [rule for key, rule in wanted.items() if key not in now])
        filters = [{"Name": "group-id", "Values": [self.security_group]}]
        for page in aws.ec2.get_paginator("describe_security_group_rules").paginate(Filters=filters):
            for row in page["SecurityGroupRules"]:
                rule = _rule(row)
                if _key(rule) not in wanted:
                    revoke = (
                        aws.ec2.revoke_security_group_egress
                        if row["IsEgress"]
                        else aws.ec2.revoke_security_group_ingress
                    )
                    revoke(GroupId=self.security_group, SecurityGroupRuleIds=[row["SecurityGroupRuleId"]])
                elif rule["description"] != wanted[_key(rule)]["description"]:
                    change = {
                        "SecurityGroupRuleId": row["SecurityGroupRuleId"],
                        "SecurityGroupRule": _request(wanted[_key(rule)]),
                    }
                    aws.ec2.modify_security_group_rules(GroupId=self.security_group, SecurityGroupRules=[change])

    def delete(self, aws: Aws, live: Live) -> None:  # noqa: ARG002
        filters = [{"Name": "group-id", "Values": [self.security_group]}]
        ids: dict[bool, list[str]] = {True: [], False: []}
        for page in aws.ec2.get_paginator("describe_security_group_rules").paginate(Filters=filters):
            for row in page["SecurityGroupRules"]:
                ids[row["IsEgress"]].append(row["SecurityGroupRuleId"])
        if ids[False]:
            aws.ec2.revoke_security_group_ingress(GroupId=self.security_group, SecurityGroupRuleIds=ids[False])
        if ids[True]:
            aws.ec2.revoke_security_group_egress(GroupId=self.security_group, SecurityGroupRuleIds=ids[True])

    def _authorize(self, aws: Aws, rules: Any) -> None:
        tags = aws.tag_specifications(self, "security-group-rule")
        for direction, authorize in (
            ("in", aws.ec2.authorize_security_group_ingress),
            ("out", aws.ec2.authorize_security_group_egress),
        ):
            permissions = [_permission(rule) for rule in rules if rule["direction"] == direction]
            if permissions:
                authorize(GroupId=self.security_group, IpPermissions=permissions, TagSpecifications=tags)


def _key(rule: Rule) -> tuple[Any, ...]:
    return rule["direction"], rule["protocol"], rule["from"], rule["to"], rule["peer"]


def _automatic(rule: Rule) -> bool:
    return _key(rule) == ("out", "-1", -1, -1, ANYWHERE)


def _is_range(peer: str) -> bool:
    return "/" in peer


def _permission(rule: Rule) -> dict[str, Any]:
    peer = {"Description": rule["description"]}
    if _is_range(rule["peer"]):
        peers: dict[str, Any] = {"IpRanges": [{"CidrIp": rule["peer"], **peer}]}
    else:
        peers = {"UserIdGroupPairs": [{"GroupId": rule["peer"], **peer}]}
    return {"IpProtocol": rule["protocol"], "FromPort": rule["from"], "ToPort": rule["to"], **peers}


def _request(rule: Rule) -> dict[str, Any]:
    peer = "CidrIpv4" if _is_range(rule["peer"]) else "ReferencedGroupId"
    return {
        "IpProtocol": rule["protocol"],
        "FromPort": rule["from"],
        "ToPort": rule["to"],
        peer: rule["peer"],
        "Description": rule["description"],
    }


def _rules(permissions: list[dict[str, Any]], direction: str) -> Iterator[Rule]:
    """Rules out of a group's row, which bundles them by protocol and ports."""
    for permission in permissions:
        peers = [
            *((each["CidrIp"], each) for each in permission.get("IpRanges", ())),
            *((each["GroupId"], each) for each in permission.get("UserIdGroupPairs", ())),
            *((each["CidrIpv6"], each) for each in permission.get("Ipv6Ranges", ())),
            *((each["PrefixListId"], each) for each in permission.get("PrefixListIds", ())),
        ]
        for peer, each in peers:
            yield {
                "direction": direction,
                "protocol": permission["IpProtocol"],
                "from": permission.get("FromPort", -1),
                "to": permission.get("ToPort", -1),
                "peer": peer,
                "description": each.get("Description", ""),
            }


def _rule(row: dict[str, Any]) -> Rule:
    group = row.get("ReferencedGroupInfo", {}).get("GroupId")
    return {
        "direction": "out" if row["IsEgress"] else "in",
        "protocol": row["IpProtocol"],
        "from": row.get("FromPort", -1),
        "to": row.get("ToPort", -1),
        "peer": group or row.get("CidrIpv4") or row.get("CidrIpv6") or row.get("PrefixListId"),
        "description": row.get("Description", ""),
    }


def declare(config: Config) -> Iterator[Resource]:
    rules: dict[str, list[Rule]] = {}
    for source, target, port, why in flows(config.network.cidr):
        for direction, owner, peer in (("out", source, target), ("in", target, source)):
            if not _is_range(owner):
                rule = {
                    "direction": direction,
                    "protocol": "tcp",
                    "from": port,
                    "to": port,
                    "peer": peer if _is_range(peer) else Ref(f"{peer}-sg"),
                    "description": f"{why} {'to' if direction == 'out' else 'from'} {peer}",
                }
                if rule not in rules.setdefault(owner, []):
                    rules[owner].append(plain(rule))
    for owner, own in rules.items():
        yield SecurityGroupRules(name=f"{owner}-rules", security_group=Ref(f"{owner}-sg"), rules=tuple(own))
