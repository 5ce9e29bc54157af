"""Amazon OpenSearch Service: VPC domains, and the long wait for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporal_ecs.sandbox.aws import iam
from temporal_ecs.sandbox.world import Fault, Request, hex_id, moment, operation, tag_dict, tag_list, uuid

_VERSIONS = ("OpenSearch_3.3", "OpenSearch_3.1", "OpenSearch_2.19", "OpenSearch_2.17", "OpenSearch_2.15",
             "OpenSearch_2.13", "OpenSearch_2.11", "OpenSearch_2.9", "OpenSearch_2.7", "OpenSearch_2.5",
             "OpenSearch_2.3", "OpenSearch_1.3", "OpenSearch_1.2", "OpenSearch_1.1", "OpenSearch_1.0",
             "Elasticsearch_7.10")  # fmt: skip
_CONFIG = (
    "EngineVersion", "ClusterConfig", "EBSOptions", "AccessPolicies", "IPAddressType", "SnapshotOptions", "VPCOptions",
    "CognitoOptions", "EncryptionAtRestOptions", "NodeToNodeEncryptionOptions", "AdvancedOptions",
    "DomainEndpointOptions", "AdvancedSecurityOptions", "AutoTuneOptions", "OffPeakWindowOptions",
    "SoftwareUpdateOptions",
)  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {  # what DescribeDomain shows of a domain that doesn't ask for it
    "ClusterConfig": {
        "InstanceType": "m4.large.search", "InstanceCount": 1, "DedicatedMasterEnabled": False,
        "ZoneAwarenessEnabled": False, "WarmEnabled": False, "ColdStorageOptions": {"Enabled": False},
        "MultiAZWithStandbyEnabled": False,
    },
    "EBSOptions": {"EBSEnabled": True},
    "SnapshotOptions": {"AutomatedSnapshotStartHour": 0},
    "CognitoOptions": {"Enabled": False},
    "EncryptionAtRestOptions": {"Enabled": False},
    "NodeToNodeEncryptionOptions": {"Enabled": False},
    "AdvancedOptions": {"override_main_response_version": "false", "rest.action.multi.allow_explicit_index": "true"},
    "DomainEndpointOptions": {
        "EnforceHTTPS": False, "TLSSecurityPolicy": "Policy-Min-TLS-1-2-2019-07", "CustomEndpointEnabled": False,
    },
    "AdvancedSecurityOptions": {
        "Enabled": False, "InternalUserDatabaseEnabled": False, "AnonymousAuthEnabled": False,
    },
    "OffPeakWindowOptions": {
        "Enabled": True, "OffPeakWindow": {"WindowStartTime": {"Hours": 22, "Minutes": 0}},
    },
    "SoftwareUpdateOptions": {"AutoSoftwareUpdateEnabled": False},
}  # fmt: skip


@dataclass
class Domain:
    """A domain. `phase` is its DomainProcessingStatus."""

    data: dict[str, Any]
    phase: str = "Creating"
    ready: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    interfaces: list[str] = field(default_factory=list)
    created: datetime = field(default_factory=moment)
    changed: datetime = field(default_factory=moment)

    def shown(self) -> dict[str, Any]:
        """As DescribeDomain shows it: a VPC domain has no `Endpoint`, and none at all before it is ready."""
        vpc = "VPCOptions" in self.data
        host = f"{'vpc-' if vpc else ''}{self.data['DomainName']}-{self.data['DomainId'][-26:]}.es.amazonaws.com"
        where = ({"Endpoints": {"vpc": host}} if vpc else {"Endpoint": host}) if self.ready else {}
        return {
            **self.data,
            **where,
            "Created": True,
            "Deleted": self.phase == "Deleting",
            "Processing": self.phase != "Active",
            "UpgradeProcessing": False,
            "DomainProcessingStatus": self.phase,
        }


class OpenSearch:
    """The domains of one region."""

    def __init__(self) -> None:
        self.domains: dict[str, Domain] = {}


@operation("opensearch", "CreateDomain")
def create_domain(request: Request) -> dict[str, Any]:
    """A VPC domain needs the service-linked role first."""
    domains, params = request.state(OpenSearch).domains, dict(request.params)
    name, tags = params["DomainName"], tag_dict(params.pop("TagList", []))
    if existing := domains.get(name):
        if existing.phase == "Deleting":
            raise Fault("ValidationException", f"Domain {name} is still being deleted. Please try again later.")
        raise Fault("ResourceAlreadyExistsException", f"Domain {name} already exists.", 409)
    data = {
        "DomainId": f"{request.account}/{name}",
        "ARN": request.arn("es", f"domain/{name}"),
        "EngineVersion": "OpenSearch_2.19",
        "IPAddressType": "ipv4",
        "AutoTuneOptions": {"State": "ENABLED", "UseOffPeakWindow": False},
        "ServiceSoftwareOptions": {
            "CurrentVersion": "OpenSearch_2_19_R20260101", "NewVersion": "", "UpdateAvailable": False,
            "Cancellable": False, "UpdateStatus": "COMPLETED", "OptionalDeployment": True,
        },
        **params,
    }  # fmt: skip
    for option, default in _DEFAULTS.items():
        data[option] = {**default, **params.get(option, {})}
    _check(data)
    domain = Domain(data, tags=tags)
    if "VPCOptions" in params:
        _enter_vpc(request, domain)
    domains[name] = domain
    _finish_later(request, domain, "opensearch create")
    return {"DomainStatus": domain.shown()}


@operation("opensearch", "DescribeDomain")
def describe_domain(request: Request) -> dict[str, Any]:
    """Until it is quite gone, a domain shows as deleted."""
    return {"DomainStatus": _existing(request).shown()}


@operation("opensearch", "DescribeDomains")
def describe_domains(request: Request) -> dict[str, Any]:
    """Unknown names are left out."""
    domains, names = request.state(OpenSearch).domains, request.params["DomainNames"]
    return {"DomainStatusList": [domains[name].shown() for name in names if name in domains]}


@operation("opensearch", "ListDomainNames")
def list_domain_names(request: Request) -> dict[str, Any]:
    """With the engine."""
    names = request.state(OpenSearch).domains
    return {"DomainNames": [{"DomainName": name, "EngineType": "OpenSearch"} for name in names]}


@operation("opensearch", "DescribeDomainConfig")
def describe_domain_config(request: Request) -> dict[str, Any]:
    """Each option with its own status."""
    return _config(_existing(request))


def _config(domain: Domain) -> dict[str, Any]:
    state = "Active" if domain.phase == "Active" else "Processing"
    status = {
        "CreationDate": domain.created, "UpdateDate": domain.changed, "UpdateVersion": 1, "State": state,
        "PendingDeletion": domain.phase == "Deleting",
    }  # fmt: skip
    options = {name: domain.data[name] for name in _CONFIG if name in domain.data}
    return {"DomainConfig": {name: {"Options": value, "Status": status} for name, value in options.items()}}


@operation("opensearch", "UpdateDomainConfig")
def update_domain_config(request: Request) -> dict[str, Any]:
    """One change at a time; each takes a deployment of its own."""
    domain, params = _existing(request), request.params
    if domain.phase != "Active":
        raise Fault(
            "ValidationException",
            "A change/update is in progress. Please wait for it to complete before requesting another change.",
        )
    changes = {
        name: {**domain.data.get(name, {}), **value} if isinstance(value, dict) else value
        for name, value in params.items()
        if name in _CONFIG
    }
    _check({**domain.data, **changes})
    network = "VPCOptions" in changes
    domain.data |= changes
    if network:
        _leave_vpc(request, domain)
        _enter_vpc(request, domain)
    if not params.get("DryRun"):
        domain.phase, domain.changed = "Modifying", moment()
        _finish_later(request, domain, "opensearch change")
    return _config(domain)


@operation("opensearch", "DescribeDomainChangeProgress")
def describe_domain_change_progress(request: Request) -> dict[str, Any]:
    """Whether a change is under way; its stages aren't modelled."""
    domain = _existing(request)
    done = domain.phase == "Active"
    return {
        "ChangeProgressStatus": {
            "ChangeId": uuid(),
            "StartTime": domain.changed,
            "Status": "COMPLETED" if done else "PROCESSING",
            "TotalNumberOfStages": 1,
            "ChangeProgressStages": [],
            "ConfigChangeStatus": "Completed" if done else "ApplyingChanges",
        }
    }


@operation("opensearch", "DeleteDomain")
def delete_domain(request: Request) -> dict[str, Any]:
    """Its interfaces hold their security groups and subnets until it is gone."""
    domains, domain = request.state(OpenSearch).domains, _existing(request)
    if domain.phase != "Deleting":
        domain.phase = "Deleting"

        def finish() -> None:
            _leave_vpc(request, domain)
            domains.pop(domain.data["DomainName"], None)

        request.after("opensearch delete", finish)
    return {"DomainStatus": domain.shown()}


@operation("opensearch", "ListVersions")
def list_versions(_: Request) -> dict[str, Any]:
    """Newest first."""
    return {"Versions": list(_VERSIONS)}


@operation("opensearch", "AddTags", "RemoveTags", "ListTags")
def tags(request: Request) -> dict[str, Any]:
    """By ARN."""
    domains, params = request.state(OpenSearch).domains.values(), request.params
    domain = next((one for one in domains if one.data["ARN"] == params["ARN"]), None)
    if domain is None:
        raise Fault("ResourceNotFoundException", f"Domain not found: {params['ARN']}", 409)
    if request.operation == "ListTags":
        return {"TagList": tag_list(domain.tags)}
    domain.tags |= tag_dict(params.get("TagList"))
    for key in params.get("TagKeys", ()):
        domain.tags.pop(key, None)
    return {}


def _existing(request: Request) -> Domain:
    name = request.params["DomainName"]
    if found := request.state(OpenSearch).domains.get(name):
        return found
    raise Fault("ResourceNotFoundException", f"Domain not found: {name}", 409)


def _finish_later(request: Request, domain: Domain, delay: str) -> None:
    def finish() -> None:
        if domain.phase != "Deleting":
            domain.phase, domain.ready = "Active", True

    request.after(delay, finish)


def _check(data: dict[str, Any]) -> None:
    if data["EngineVersion"] not in _VERSIONS:
        raise Fault("ValidationException", f"Invalid engine version {data['EngineVersion']}")
    storage, cluster = data["EBSOptions"], data["ClusterConfig"]
    size = storage.get("VolumeSize")
    if storage["EBSEnabled"] and (size is None or not 10 <= size <= 24576):
        raise Fault("ValidationException", f"Volume size must be between 10 and 24576 for gp3, not {size}")
    subnets = data.get("VPCOptions", {}).get("SubnetIds", [])
    zones = cluster.get("ZoneAwarenessConfig", {}).get("AvailabilityZoneCount", 2)
    wanted = zones if cluster["ZoneAwarenessEnabled"] else 1
    if "VPCOptions" in data and len(subnets) != wanted:
        raise Fault("ValidationException", f"You must specify exactly {wanted} subnet(s), not {len(subnets)}.")


def _enter_vpc(request: Request, domain: Domain) -> None:
    """The domain's nodes stand in the subnets, each with an interface of the service's own."""
    if not any(iam.linked_role(request, f"{name}.amazonaws.com") for name in ("opensearchservice", "es")):
        raise Fault(
            "ValidationException",
            "Before you can proceed, you must enable a service-linked role to give Amazon OpenSearch Service "
            "permissions to access your VPC.",
        )
    ec2, options = request.backend("ec2"), domain.data["VPCOptions"]
    every = {subnet.id: subnet for zone in ec2.subnets.values() for subnet in zone.values()}
    for identifier in options["SubnetIds"]:
        if identifier not in every:
            raise Fault("ValidationException", f"The subnet ID '{identifier}' does not exist")
    subnets = [every[identifier] for identifier in options["SubnetIds"]]
    groups = options.get("SecurityGroupIds") or [ec2.get_default_security_group(subnets[0].vpc_id).id]
    for group in groups:
        if ec2.get_security_group_from_id(group) is None:
            raise Fault("ValidationException", f"The security group '{group}' does not exist")
    domain.data["VPCOptions"] = {
        "VPCId": subnets[0].vpc_id,
        "SubnetIds": [subnet.id for subnet in subnets],
        "AvailabilityZones": [subnet.availability_zone for subnet in subnets],
        "SecurityGroupIds": groups,
    }
    domain.data["DomainId"] = f"{request.account}/{domain.data['DomainName']}-{hex_id(26)}"
    for number in range(domain.data["ClusterConfig"]["InstanceCount"]):
        interface = ec2.create_network_interface(
            subnets[number % len(subnets)],
            None,
            group_ids=groups,
            description=f"ES {domain.data['DomainName']}",
        )
        interface.requester_managed = True
        domain.interfaces.append(interface.id)


def _leave_vpc(request: Request, domain: Domain) -> None:
    for interface in domain.interfaces:
        request.backend("ec2").enis.pop(interface, None)
    domain.interfaces.clear()
