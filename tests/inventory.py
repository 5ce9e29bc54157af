"""What really is in the account, read with plain boto3 by a reader that knows nothing of tecs's resources.

`read` returns everything that may be the project's: AWS's own rows by kind and name, without what differs from run to
run (times, counters), with ids replaced by names. So two runs can be compared with `==`, and a duplicate, an orphan or
a thing without tags shows as a difference. Left out are what AWS keeps in every account and what carries the tag of
another project.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

import cloud

Row = dict[str, Any]

VOLATILE = frozenset(
    {
        "ResponseMetadata", "OwnerId", "State", "Tags", "tags", "TagSet", "CreateTime", "CreationTimestamp",
        "CreateDate", "creationTime", "createdAt", "CreatedDate", "CreatedTime", "creationTimestamp",
        "LastModifiedDate", "LastChangedDate", "LastAccessedDate", "registeredAt", "updatedAt", "CreatedBy",
        "createdBy", "registeredBy", "LastModifiedUser", "AvailableIpAddressCount", "NetworkInterfaceIds",
        "NetworkInterfaceId", "PrivateIpAddress", "PrivateIp", "AssociationId", "DnsEntries",
        "CidrBlockAssociationSet", "RouteTableAssociationId", "SecurityGroupRuleId", "SecurityGroupRuleArn",
        "RoleId", "RoleLastUsed", "InstanceProfileId", "InstanceProfileList", "DomainId", "storedBytes",
        "SecretVersionsToStages", "revision", "ChangeProgressDetails", "ServiceSoftwareOptions",
        "activeServicesCount", "registeredContainerInstancesCount", "runningTasksCount", "pendingTasksCount",
        "statistics", "attachments", "deployments", "events", "runningCount", "pendingCount", "platformVersion",
        "Instances", "EnabledMetrics",
    }
)  # fmt: skip
"""Members of AWS's answers that differ between two runs, or that are read elsewhere here."""


def read(endpoint: str, project: str = cloud.PROJECT, region: str = cloud.REGION) -> dict[str, Any]:
    """Everything that may be the project's, by kind, then by name."""
    reader = _Reader(endpoint, project, region)
    for part in (_network, _security, _machines, _iam, _containers, _data, _index):
        part(reader)
    return reader.result()


def rules(inventory: Mapping[str, Any], group: str) -> list[tuple[str, str, int, int, str]]:
    """The rules of one security group: direction, protocol, ports, and the peer's group name or range."""
    return sorted((r["direction"], r["protocol"], r["from"], r["to"], r["peer"]) for r in inventory["rules"][group])


class _Reader:
    """Collects rows by kind and name, and learns on the way what each id is called."""

    def __init__(self, endpoint: str, project: str, region: str) -> None:
        self.endpoint, self.project, self.region = endpoint, project, region
        self.kinds: dict[str, dict[str, Any]] = defaultdict(dict)
        self.names: dict[str, str] = {}

    def client(self, service: str) -> Any:
        return cloud.client(self.endpoint, service, self.region)

    def rows(self, service: str, operation: str, key: str, **params: Any) -> Iterator[Any]:
        client = self.client(service)
        if client.can_paginate(operation):
            for page in client.get_paginator(operation).paginate(**params):
                yield from page.get(key, ())
        else:
            yield from getattr(client, operation)(**params).get(key, ())

    def add(self, kind: str, natural: str, row: Mapping[str, Any], tags: Any, *ids: str) -> str:
        """Keep a row under its tecs:name, else its natural name; what `ids` stand for is called that too."""
        tags = _tags(tags)
        if tags.get("tecs:project", self.project) != self.project:
            return ""
        name = base = tags.get("tecs:name") or natural
        while name in self.kinds[kind]:
            name = f"{base}#{len(self.kinds[kind])}"  # a duplicate
        self.kinds[kind][name] = {**_steady(row), "tags": tags}
        self.names |= {each: f"<{name}>" for each in ids if each}
        return name

    def result(self) -> dict[str, Any]:
        """The rows, sorted, with names for ids; ids of things that were not read lose their number."""
        text = json.dumps(self.kinds, sort_keys=True, default=str)
        known = "|".join(re.escape(each) for each in sorted(self.names, key=len, reverse=True))
        text = re.sub(known, lambda found: self.names[found[0]], text) if known else text
        text = re.sub(r"\b(\w+)-[0-9a-f]{17}\b", r"<\1>", text)
        return dict(json.loads(text))


def _tags(tags: Any) -> dict[str, str]:
    if isinstance(tags, Mapping):
        return dict(sorted(tags.items()))
    pairs = {row.get("Key", row.get("key")): row.get("Value", row.get("value")) for row in tags or ()}
    return dict(sorted(pairs.items()))


def _steady(value: Any) -> Any:
    """Without what differs between two runs."""
    if isinstance(value, Mapping):
        return {k: _steady(v) for k, v in value.items() if k not in VOLATILE}
    return [_steady(each) for each in value] if isinstance(value, list) else value


# -- the parts -------------------------------------------------------------------------------------------------


def _network(reader: _Reader) -> None:
    ec2 = reader.client("ec2")
    standard = set()  # VPCs that AWS keeps in every account
    for row in reader.rows("ec2", "describe_vpcs", "Vpcs"):
        if row["IsDefault"]:
            standard.add(row["VpcId"])
            continue
        for name in ("DnsSupport", "DnsHostnames"):
            row[name] = ec2.describe_vpc_attribute(VpcId=row["VpcId"], Attribute=f"enable{name}")[f"Enable{name}"]
        reader.add("vpcs", row["CidrBlock"], row, row["Tags"], row["VpcId"])
    for kind, operation, key, id_, natural in (
        ("subnets", "describe_subnets", "Subnets", "SubnetId", "CidrBlock"),
        ("internet-gateways", "describe_internet_gateways", "InternetGateways", "InternetGatewayId", ""),
        ("addresses", "describe_addresses", "Addresses", "AllocationId", "Domain"),
        ("nat-gateways", "describe_nat_gateways", "NatGateways", "NatGatewayId", ""),
        ("endpoints", "describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId", "ServiceName"),
        ("route-tables", "describe_route_tables", "RouteTables", "RouteTableId", ""),
    ):
        for row in reader.rows("ec2", operation, key):
            attached = [each["VpcId"] for each in row.get("Attachments", ())]
            gone = str(row.get("State")).lower() == "deleted"
            if row.get("VpcId") in standard or set(attached) & standard or gone:
                continue
            main = any(each.get("Main") for each in row.get("Associations", ()))
            named = "main" if main else row.get(natural, "untagged")
            transition = {"state": row["State"]} if row.get("State") not in (None, "available") else {}
            reader.add(kind, named, row | transition, row["Tags"], row[id_], row.get("PublicIp", ""))
    for kind in ("Routes", "Associations"):
        for table in reader.kinds["route-tables"].values():
            table[kind].sort(key=lambda row: json.dumps({**row, "SubnetId": reader.names.get(row.get("SubnetId"))}))


def _security(reader: _Reader) -> None:
    groups, every = {}, {}
    for row in reader.rows("ec2", "describe_security_groups", "SecurityGroups"):
        every[row["GroupId"]] = row["GroupName"]
        if row["GroupName"] == "default":  # each VPC has one
            continue
        about = {key: row[key] for key in ("GroupName", "Description", "VpcId")}
        if reader.add("security-groups", row["GroupName"], about, row["Tags"], row["GroupId"]):
            groups[row["GroupId"]] = row["GroupName"]
    found: dict[str, list[Row]] = {name: [] for name in groups.values()}
    for row in reader.rows("ec2", "describe_security_group_rules", "SecurityGroupRules"):
        if row["GroupId"] not in groups:
            continue
        peer = row.get("ReferencedGroupInfo", {}).get("GroupId")
        found[groups[row["GroupId"]]].append(
            {
                "direction": "out" if row["IsEgress"] else "in",
                "protocol": row["IpProtocol"],
                "from": row["FromPort"],
                "to": row["ToPort"],
                "peer": every.get(peer) or row.get("CidrIpv4") or row.get("CidrIpv6") or row.get("PrefixListId"),
                "description": row.get("Description", ""),
                "tags": _tags(row["Tags"]),
            }
        )
    reader.kinds["rules"] = {name: sorted(each, key=json.dumps) for name, each in found.items()}


def _machines(reader: _Reader) -> None:
    for row in reader.rows("ec2", "describe_launch_templates", "LaunchTemplates"):
        id_ = row["LaunchTemplateId"]
        versions = list(
            reader.rows("ec2", "describe_launch_template_versions", "LaunchTemplateVersions", LaunchTemplateId=id_)
        )
        newest = max(versions, key=lambda version: version["VersionNumber"])["LaunchTemplateData"]
        tags = {t["Key"]: t["Value"] for each in newest.get("TagSpecifications", ()) for t in each["Tags"]}
        extra = {
            "data": newest,
            "user_data": base64.b64decode(newest.get("UserData", "")).decode(),
            "instance_tags": tags,
            "versions": len(versions),
        }
        reader.add("launch-templates", row["LaunchTemplateName"], row | extra, row.get("Tags"), id_)
    instances = Counter()
    for row in reader.rows("ec2", "describe_instances", "Reservations"):
        for each in row["Instances"]:
            if each["State"]["Name"] not in ("terminated", "shutting-down"):
                instances[_tags(each.get("Tags")).get("aws:autoscaling:groupName", "of no group")] += 1
    reader.kinds["instances"] = dict(instances)
    interfaces = Counter()
    for row in reader.rows("ec2", "describe_network_interfaces", "NetworkInterfaces"):
        groups = ",".join(sorted(each["GroupName"] for each in row["Groups"]))
        interfaces[f"{row['InterfaceType']} {groups}"] += 1
    reader.kinds["interfaces"] = dict(interfaces)
    for row in reader.rows("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups"):
        tags = [{key: tag[key] for key in ("Key", "Value", "PropagateAtLaunch")} for tag in row["Tags"]]
        extra = {
            "propagated": sorted(tag["Key"] for tag in tags if tag["PropagateAtLaunch"]),
            "subnets": sorted(row["VPCZoneIdentifier"].split(","), key=lambda each: reader.names.get(each, each)),
            "VPCZoneIdentifier": "",
        }
        reader.add("auto-scaling-groups", row["AutoScalingGroupName"], row | extra, tags, row["AutoScalingGroupARN"])


def _iam(reader: _Reader) -> None:
    linked = []
    for row in reader.rows("iam", "get_account_authorization_details", "RoleDetailList", Filter=["Role"]):
        if row["Path"].startswith("/aws-service-role/"):
            linked.append(row["RoleName"])
            continue
        extra = {"AttachedManagedPolicies": sorted(each["PolicyArn"] for each in row["AttachedManagedPolicies"])}
        reader.add("roles", row["RoleName"], row | extra, row["Tags"])
    reader.kinds["service-linked-roles"] = {name: {} for name in linked}
    for row in reader.rows("iam", "list_instance_profiles", "InstanceProfiles"):
        whole = reader.client("iam").get_instance_profile(InstanceProfileName=row["InstanceProfileName"])
        tags = whole["InstanceProfile"].get("Tags")
        extra = {"Roles": [role["RoleName"] for role in row["Roles"]]}
        reader.add("instance-profiles", row["InstanceProfileName"], row | extra, tags)
    for row in reader.rows("iam", "list_policies", "Policies", Scope="Local"):
        reader.add("policies", row["PolicyName"], row, row.get("Tags"))


def _containers(reader: _Reader) -> None:
    ecs, clusters = reader.client("ecs"), list(reader.rows("ecs", "list_clusters", "clusterArns"))
    for arn in clusters:
        include = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "TAGS"]
        row = ecs.describe_clusters(clusters=[arn], include=include)["clusters"][0]
        name = reader.add("clusters", row["clusterName"], row, row["tags"])
        tasks = list(reader.rows("ecs", "list_tasks", "taskArns", cluster=arn))
        machines = list(reader.rows("ecs", "list_container_instances", "containerInstanceArns", cluster=arn))
        if name:
            reader.kinds["clusters"][name] |= {"tasks": len(tasks), "container_instances": len(machines)}
        services = list(reader.rows("ecs", "list_services", "serviceArns", cluster=arn))
        for start in range(0, len(services), 10):
            batch = services[start : start + 10]
            for row in ecs.describe_services(cluster=arn, services=batch, include=["TAGS"])["services"]:
                primary = next((d for d in row["deployments"] if d["status"] == "PRIMARY"), {})
                extra = {"service_connect": primary.get("serviceConnectConfiguration", {})}
                reader.add("services", row["serviceName"], row | extra, row["tags"])
    for row in ecs.describe_capacity_providers(include=["TAGS"])["capacityProviders"]:
        if row["status"] == "ACTIVE" and not row["name"].startswith("FARGATE"):
            reader.add("capacity-providers", row["name"], row, row["tags"])
    _task_definitions(reader)
    for row in reader.rows("servicediscovery", "list_namespaces", "Namespaces"):
        tags = reader.client("servicediscovery").list_tags_for_resource(ResourceARN=row["Arn"])["Tags"]
        reader.add("namespaces", row["Name"], row, tags, row["Id"])
    for row in reader.rows("servicediscovery", "list_services", "Services"):
        reader.add("discovery-services", row["Name"], {"Name": row["Name"], "Type": row["Type"]}, (), row["Id"])
    for row in reader.rows("logs", "describe_log_groups", "logGroups"):
        tags = reader.client("logs").list_tags_for_resource(resourceArn=row["logGroupArn"])["tags"]
        reader.add("log-groups", row["logGroupName"], row, tags)


def _task_definitions(reader: _Reader) -> None:
    """The active revisions, the newest first; and how many revisions there are or were."""
    ecs, seen = reader.client("ecs"), Counter()
    for status in ("INACTIVE", "ACTIVE"):
        for arn in reader.rows("ecs", "list_task_definitions", "taskDefinitionArns", status=status, sort="DESC"):
            family = arn.rpartition("/")[2].rpartition(":")[0]
            seen[family] += 1
            if status == "ACTIVE":
                answer = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
                row = answer["taskDefinition"]
                for container in row["containerDefinitions"]:
                    container["environment"] = {e["name"]: e["value"] for e in container.get("environment", ())}
                    container["secrets"] = {e["name"]: e["valueFrom"] for e in container.get("secrets", ())}
                reader.add("task-definitions", family, row, answer["tags"], arn)
    reader.kinds["revisions"] = dict(seen)


def _data(reader: _Reader) -> None:
    domains = [each["DomainName"] for each in reader.rows("opensearch", "list_domain_names", "DomainNames")]
    for name in domains:
        row = reader.client("opensearch").describe_domain(DomainName=name)["DomainStatus"]
        tags = reader.client("opensearch").list_tags(ARN=row["ARN"])["TagList"]
        row["AccessPolicies"] = json.loads(row.get("AccessPolicies") or "{}")
        reader.add("domains", name, row, tags, row.get("Endpoints", {}).get("vpc", ""))
    for row in reader.rows("amp", "list_workspaces", "workspaces"):
        endpoint = reader.client("amp").describe_workspace(workspaceId=row["workspaceId"])["workspace"]
        extra = {"prometheusEndpoint": endpoint.get("prometheusEndpoint", "")}
        reader.add("workspaces", row["alias"], row | extra, row.get("tags"), row["workspaceId"])
    for row in reader.rows("dsql", "list_clusters", "clusters"):
        whole = reader.client("dsql").get_cluster(identifier=row["identifier"])
        reader.add("databases", "untagged", whole, whole.get("tags"), row["identifier"])
    mine = [{"Key": "Name", "Option": "BeginsWith", "Values": [f"/{reader.project}/"]}]
    for row in reader.rows("ssm", "describe_parameters", "Parameters", ParameterFilters=mine):
        tags = reader.client("ssm").list_tags_for_resource(ResourceType="Parameter", ResourceId=row["Name"])["TagList"]
        value = reader.client("ssm").get_parameter(Name=row["Name"])["Parameter"]["Value"]
        reader.add("parameters", row["Name"], row | {"Value": value, "Version": 0}, tags)
    for row in reader.rows("secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True):
        reader.add("secrets", row["Name"], row, row.get("Tags"), row["ARN"])
    for row in reader.rows("ecr", "describe_repositories", "repositories"):
        tags = reader.client("ecr").list_tags_for_resource(resourceArn=row["repositoryArn"])["tags"]
        extra = {"lifecycle": _lifecycle(reader, row["repositoryName"])}
        reader.add("repositories", row["repositoryName"], row | extra, tags)


def _lifecycle(reader: _Reader, repository: str) -> Any:
    try:
        text = reader.client("ecr").get_lifecycle_policy(repositoryName=repository)["lifecyclePolicyText"]
    except ClientError:
        return None
    return json.loads(text)["rules"]


def _index(reader: _Reader) -> None:
    """What AWS's own index of tags knows of the project, whatever the listings say."""
    filters = [{"Key": "tecs:project", "Values": [reader.project]}]
    tagged: Iterable[Row] = reader.rows(
        "resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=filters
    )
    counted = Counter(
        f"{row['ResourceARN'].split(':')[2]} {_tags(row['Tags']).get('tecs:name', 'unnamed')}" for row in tagged
    )
    reader.kinds["tagged"] = dict(counted)
