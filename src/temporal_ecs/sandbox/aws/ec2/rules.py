"""Security-group rules: one rule to a peer, told apart by protocol, ports and peer, never by description."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from moto.ec2.models.security_groups import SecurityGroupRule

from temporal_ecs.sandbox.aws.ec2.common import (
    Fields,
    ec2,
    forget_tags,
    select,
    tag_from_specification,
    tags_of,
)
from temporal_ecs.sandbox.world import Fault, Request, operation, page

_PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "all": "-1"}


class Rule(SecurityGroupRule):  # type: ignore[misc]  # moto is not followed
    """moto's rule, with a description that belongs to the rule and not to its peer."""

    description: str | None = None


Key = tuple[str, int | None, int | None, str, str]


def key(rule: SecurityGroupRule) -> Key:
    """What tells a rule from another."""
    for kind, value in _peer(rule).items():
        return (rule.ip_protocol, rule.from_port, rule.to_port, kind, value)
    raise AssertionError("a rule without a peer")


def _peer(rule: SecurityGroupRule) -> dict[str, str]:
    """The rule's peer, by its name in SecurityGroupRule."""
    if cidr := rule.ip_range.get("CidrIp"):
        return {"CidrIpv4": cidr}
    if cidr := rule.ip_range.get("CidrIpv6"):
        return {"CidrIpv6": cidr}
    if rule.prefix_list_id:
        return {"PrefixListId": rule.prefix_list_id}
    return {"ReferencedGroupId": rule.source_group["GroupId"]}


@operation("ec2", "AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress")
def authorize(request: Request) -> dict[str, Any]:
    """All rules or none; the tags given are put on each."""
    group, egress = _group(request, request.params.get("GroupId")), request.operation.endswith("Egress")
    rules = group.egress_rules if egress else group.ingress_rules
    new = list(_rules(request, group, egress))
    known = {key(rule) for rule in rules}
    for rule in new:
        if key(rule) in known:
            peer = next(iter(_peer(rule).values()))
            raise Fault(
                "InvalidPermission.Duplicate",
                f'the specified rule "peer: {peer}, {rule.ip_protocol}, from port: {rule.from_port}, '
                f'to port: {rule.to_port}, ALLOW" already exists',
            )
        known.add(key(rule))
    rules.extend(new)
    for rule in new:
        tag_from_specification(request, rule.id, "security-group-rule")
    return {"Return": True, "SecurityGroupRules": [_shown(request, rule) for rule in new]}


@operation("ec2", "RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress")
def revoke(request: Request) -> dict[str, Any]:
    """By rule id, or by permission whatever the description."""
    group, egress = _group(request, request.params.get("GroupId")), request.operation.endswith("Egress")
    rules = group.egress_rules if egress else group.ingress_rules
    by_id = {rule.id: rule for rule in rules}
    if identifiers := request.params.get("SecurityGroupRuleIds"):
        for identifier in identifiers:
            if identifier not in by_id:
                raise _no_rule(identifier)
        gone = [by_id[identifier] for identifier in identifiers]
    else:
        by_key = {key(rule): rule for rule in rules}
        wanted = [key(rule) for rule in _rules(request, group, egress)]
        if any(one not in by_key for one in wanted):
            raise Fault("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
        gone = [by_key[one] for one in wanted]
    rules[:] = [rule for rule in rules if rule not in gone]
    for rule in gone:
        forget_tags(request, rule.id)
    shown = [
        {"SecurityGroupRuleId": r.id, "GroupId": group.id, "IsEgress": egress, "IpProtocol": r.ip_protocol}
        for r in gone
    ]
    return {"Return": True, "RevokedSecurityGroupRules": shown}


@operation("ec2", "DescribeSecurityGroupRules")
def describe_security_group_rules(request: Request) -> dict[str, Any]:
    """By id, by group, by tag."""
    every = {rule.id: rule for rule in _every_rule(request)}
    wanted = request.params.get("SecurityGroupRuleIds") or list(every)
    for identifier in wanted:
        if identifier not in every:
            raise _no_rule(identifier)
    fields: Fields[SecurityGroupRule] = {
        "group-id": lambda rule: rule.group_id, "security-group-rule-id": lambda rule: rule.id,
    }  # fmt: skip
    chosen = select(request, (every[one] for one in wanted), fields, lambda rule: str(rule.id))
    shown, token = page(chosen, request.params, "MaxResults", "NextToken", 1000)
    return {"SecurityGroupRules": [_shown(request, rule) for rule in shown], "NextToken": token}


@operation("ec2", "ModifySecurityGroupRules")
def modify_security_group_rules(request: Request) -> dict[str, Any]:
    """Replaces everything in a rule but its id, direction and tags; a missing description is removed."""
    group = _group(request, request.params["GroupId"])
    rules = {rule.id: rule for rule in [*group.ingress_rules, *group.egress_rules]}
    for change in request.params["SecurityGroupRules"]:
        rule, new = rules.get(change["SecurityGroupRuleId"]), change["SecurityGroupRule"]
        if rule is None:
            raise _no_rule(change["SecurityGroupRuleId"])
        replacement = _rule(request, group, rule.is_egress, {**new, **_peer_of_request(new)})
        if replacement.is_egress != rule.is_egress or next(iter(_peer(replacement))) != next(iter(_peer(rule))):
            raise Fault("InvalidParameterValue", "The type of a rule's source or destination can't be changed")
        side = group.egress_rules if rule.is_egress else group.ingress_rules
        if any(key(other) == key(replacement) for other in side if other.id != rule.id):
            raise Fault("InvalidPermission.Duplicate", "The modified rule already exists")
        forget_tags(request, replacement.id)
        replacement.id = rule.id
        side[side.index(rule)] = replacement
    return {"Return": True}


@operation("ec2", "UpdateSecurityGroupRuleDescriptionsIngress", "UpdateSecurityGroupRuleDescriptionsEgress")
def update_descriptions(request: Request) -> dict[str, Any]:
    """By rule id, or by permission."""
    group, egress = _group(request, request.params.get("GroupId")), request.operation.endswith("Egress")
    rules = group.egress_rules if egress else group.ingress_rules
    by_id = {rule.id: rule for rule in rules}
    for one in request.params.get("SecurityGroupRuleDescriptions", ()):
        if one["SecurityGroupRuleId"] not in by_id:
            raise _no_rule(one["SecurityGroupRuleId"])
        by_id[one["SecurityGroupRuleId"]].description = one.get("Description")
    by_key = {key(rule): rule for rule in rules}
    for wanted in _rules(request, group, egress):
        if key(wanted) not in by_key:
            raise Fault("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
        by_key[key(wanted)].description = wanted.description
    return {"Return": True}


def permissions(request: Request, rules: Iterable[SecurityGroupRule]) -> list[dict[str, Any]]:
    """Rules as DescribeSecurityGroups shows them: grouped by protocol and ports."""
    grouped: dict[tuple[Any, ...], dict[str, Any]] = {}
    for rule in rules:
        ports = {} if rule.from_port is None else {"FromPort": rule.from_port, "ToPort": rule.to_port}
        one = grouped.setdefault((rule.ip_protocol, rule.from_port, rule.to_port), {
            "IpProtocol": rule.ip_protocol, **ports,
            "IpRanges": [], "Ipv6Ranges": [], "PrefixListIds": [], "UserIdGroupPairs": [],
        })  # fmt: skip
        text = {"Description": rule.description} if rule.description else {}
        ((kind, value),) = _peer(rule).items()
        if kind == "ReferencedGroupId":
            one["UserIdGroupPairs"].append({"GroupId": value, "UserId": request.account, **text})
        else:
            place, member = {
                "CidrIpv4": ("IpRanges", "CidrIp"), "CidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
                "PrefixListId": ("PrefixListIds", "PrefixListId"),
            }[kind]  # fmt: skip
            one[place].append({member: value, **text})
    return list(grouped.values())


def _group(request: Request, identifier: str | None) -> Any:
    group = ec2(request).get_security_group_from_id(identifier)
    if group is None:
        raise Fault("InvalidGroup.NotFound", f"The security group '{identifier}' does not exist")
    return group


def _every_rule(request: Request) -> Iterator[SecurityGroupRule]:
    for vpc in ec2(request).groups.values():
        for group in vpc.values():
            yield from group.ingress_rules
            yield from group.egress_rules


def _rules(request: Request, group: Any, egress: bool) -> Iterator[Rule]:
    """One rule for each peer of each permission in the request."""
    params = request.params
    flat = params if params.get("CidrIp") or params.get("IpProtocol") else None
    for permission in [*params.get("IpPermissions", ()), *([flat] if flat else ())]:
        peers = [
            *permission.get("IpRanges", ()), *permission.get("Ipv6Ranges", ()),
            *permission.get("PrefixListIds", ()), *permission.get("UserIdGroupPairs", ()),
        ]  # fmt: skip
        if permission is flat:
            peers = [{"CidrIp": params.get("CidrIp")}]
        for peer in peers:
            ports = {name: permission.get(name) for name in ("IpProtocol", "FromPort", "ToPort")}
            yield _rule(request, group, egress, {**peer, **ports})


def _peer_of_request(new: dict[str, Any]) -> dict[str, Any]:
    """SecurityGroupRuleRequest names the peers in its own way."""
    return {"CidrIp": new.get("CidrIpv4"), "GroupId": new.get("ReferencedGroupId")}


def _rule(request: Request, group: Any, egress: bool, wanted: dict[str, Any]) -> Rule:
    protocol = str(wanted["IpProtocol"]).lower()
    protocol = _PROTOCOLS.get(protocol, protocol)
    ports = (None, None) if protocol == "-1" else (wanted.get("FromPort"), wanted.get("ToPort"))
    cidr, source, prefix = {}, None, None
    if text := wanted.get("CidrIp"):
        cidr = {"CidrIp": _normalised(text, 4)}
    elif text := wanted.get("CidrIpv6"):
        cidr = {"CidrIpv6": _normalised(text, 6)}
    elif other := wanted.get("GroupId"):
        source = {"GroupId": _group(request, other).id, "UserId": request.account}
    elif wanted.get("PrefixListId"):
        prefix = {"PrefixListId": wanted["PrefixListId"]}
    else:
        raise Fault("MissingParameter", "The request must contain a source or destination for each rule")
    rule = Rule(ec2(request), protocol, group.id, *ports, cidr, source, prefix, egress)
    rule.description = wanted.get("Description")
    return rule


def _normalised(text: str, version: int) -> str:
    """EC2 clears the host bits: 10.0.0.1/8 becomes 10.0.0.0/8."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        network = None
    if network is None or network.version != version or "/" not in text:
        raise Fault("InvalidParameterValue", f"CIDR block {text} is malformed")
    return str(network)


def _shown(request: Request, rule: SecurityGroupRule) -> dict[str, Any]:
    ((kind, value),) = _peer(rule).items()
    peer: dict[str, Any] = {kind: value}
    if kind == "ReferencedGroupId":
        peer = {"ReferencedGroupInfo": {"GroupId": value, "UserId": request.account}}
    return {
        "SecurityGroupRuleId": rule.id,
        "SecurityGroupRuleArn": request.arn("ec2", f"security-group-rule/{rule.id}"),
        "GroupId": rule.group_id,
        "GroupOwnerId": request.account,
        "IsEgress": rule.is_egress,
        "IpProtocol": rule.ip_protocol,
        "FromPort": -1 if rule.from_port is None else rule.from_port,
        "ToPort": -1 if rule.to_port is None else rule.to_port,
        "Description": rule.description,
        "Tags": tags_of(request, rule.id),
        **peer,
    }


def _no_rule(identifier: str) -> Fault:
    return Fault("InvalidSecurityGroupRuleId.NotFound", f"The security group rule ID '{identifier}' does not exist")
