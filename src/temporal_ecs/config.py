"""tecs.toml to a frozen Config; every problem is found and shown at once, with its path.

A setting is declared once, below, with its default, its meaning and its check. The example file and the
checks follow from that declaration.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_args, get_origin, get_type_hints

from .errors import ConfigError
from .services import PRESETS, SERVICES, TEMPORAL

Check = Callable[[Any], str | None]


def setting(default: Any, doc: str, check: Check | None = None) -> Any:
    """One setting: its default, a one-line meaning, and a check that returns what is wrong or None."""
    metadata = {"doc": doc, "check": check}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: MappingProxyType(dict(default)), metadata=metadata)
    return field(default=default, metadata=metadata)


# -- checks ------------------------------------------------------------------------------------------------


def one_of(*allowed: Any) -> Check:
    return lambda value: None if value in allowed else f"must be one of {', '.join(map(str, allowed))}"


def between(low: int, high: int, unit: str = "") -> Check:
    return lambda value: None if low <= value <= high else f"must be {low} to {high}{' ' if unit else ''}{unit}"


def matching(pattern: str, wanted: str) -> Check:
    return lambda value: None if re.fullmatch(pattern, value) else f"must be {wanted}"


def optional(check: Check) -> Check:
    return lambda value: None if value == "" else check(value)


cpu = one_of(256, 512, 1024, 2048, 4096)
memory = between(512, 30720, "MiB")
image = matching(r"[a-z0-9][\w.\-/:]*(@sha256:[0-9a-f]{64})?", "an image reference like repository:tag")

# The ARM64 families: a generation digit followed by a "g" (m7g, c7gn, r8gd, im4gn), and a1.
graviton = matching(
    r"(a1|[a-z]+\d+g[a-z]*)\.(nano|micro|small|medium|large|\d*xlarge|metal(-\d+xl)?)",
    "a Graviton (ARM64) instance type like m7g.xlarge",
)

# Public, or PrivateLink's: <id>.dsql-<suffix>.<region>.on.aws.
dsql_endpoint = matching(r"[a-z0-9]+\.dsql(-[a-z0-9]+)?\.[a-z0-9-]+\.on\.aws", "a host like <id>.dsql.<region>.on.aws")

LOG_RETENTION_DAYS = tuple(
    map(
        int,
        "1 3 5 7 14 30 60 90 120 150 180 365 400 545 731 1096 1827 2192 2557 2922 3288 3653".split(),  # noqa: SIM905
    )
)  # CloudWatch Logs API reference, PutRetentionPolicy

MAX_ZONES = 15  # the NAT subnet, the last /24 of a /16, lies inside private range number 15


def project_name(value: str) -> str | None:
    """Names derived from the project must be legal everywhere; OpenSearch's is the tightest."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", value):
        return "must be lower-case letters, digits and single hyphens, starting with a letter"
    if len(value) > 17:
        domain = f"{value}-visibility names the OpenSearch domain, 28 at most"
        return f"must be at most 17 characters, it has {len(value)} ({domain})"
    if value.startswith(("aws", "ecs", "fargate", "ssm", "sg-")):
        return "must not begin with aws, ecs, fargate, ssm or sg- (names that AWS keeps for itself)"
    return None


def vpc_cidr(value: str) -> str | None:
    try:
        network = ipaddress.IPv4Network(value)
    except ValueError as error:
        return f"must be an IPv4 range like 10.0.0.0/16: {error}"
    if not 16 <= network.prefixlen <= 20:
        return f"must be a /16 (AWS's limit) to /20 (the NAT subnet takes 1/256), it is a /{network.prefixlen}"
    return None


def zones(value: tuple[str, ...]) -> str | None:
    if value and len(value) < 2:
        return "must name at least 2 zones (or none, for the region's first two)"
    if len(set(value)) < len(value):
        return "must not name a zone twice"
    return None if len(value) <= MAX_ZONES else f"must name at most {MAX_ZONES} zones"


# -- the settings --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Network:
    """The VPC and its subnets."""

    cidr: str = setting("10.0.0.0/16", "the VPC's IPv4 range, /16 to /20; fixed once made", vpc_cidr)
    availability_zones: tuple[str, ...] = setting(
        (), "zones of the private subnets; none: the region's first two, remembered in the state", zones
    )


@dataclass(frozen=True, kw_only=True)
class Instances:
    """The EC2 instances that the services run on."""

    type: str = setting("m7g.xlarge", "instance type, Graviton only", graviton)
    count: int = setting(6, "instances at the start; the group may grow by 2", between(1, 20))
    ami: str = setting(
        "",
        "ECS-optimised ARM64 image; empty: the newest when first provisioned, then pinned",
        optional(matching(r"ami-[0-9a-f]{8,17}", "an AMI id like ami-0123456789abcdef0")),
    )


@dataclass(frozen=True, kw_only=True)
class Temporal:
    """Temporal itself."""

    history_shards: int = setting(4096, "fixed for the life of the database", between(1, 16384))


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """One ECS service."""

    cpu: int = setting(1024, "CPU units of one task, 1024 = one vCPU", cpu)
    memory: int = setting(4096, "MiB of one task", memory)
    count: int = setting(1, "tasks that `tecs scale up` starts", between(0, 199))  # where surge() is exactly one task
    environment: Mapping[str, str] = setting({}, "container variables to add or override")


@dataclass(frozen=True, kw_only=True)
class Images:
    """Container images. Empty: from the stack's own ECR repositories, by digest, once pushed."""

    temporal: str = setting("", "runtime image of the four Temporal services", optional(image))
    admin_tools: str = setting("", "image of the OpenSearch set-up task", optional(image))
    benchmark: str = setting("", "image of the load generator", optional(image))
    grafana: str = setting("", "Grafana with tecs's dashboards and data sources", optional(image))
    ui: str = setting("temporalio/ui:2.43.3", "Temporal's web interface", image)
    create_repositories: bool = setting(
        True, "make the ECR repositories; false: they exist and belong to another project"
    )
    adot: str = setting("public.ecr.aws/aws-observability/aws-otel-collector:v0.45.1", "metrics collector", image)


@dataclass(frozen=True, kw_only=True)
class Dsql:
    """Aurora DSQL. Both empty: the stack makes a cluster of its own, with deletion protection."""

    endpoint: str = setting(
        "",
        "host of an existing cluster",
        optional(dsql_endpoint),
    )
    arn: str = setting(
        "",
        "ARN of that cluster",
        optional(
            matching(
                r"arn:aws[a-z-]*:dsql:[a-z0-9-]+:\d{12}:cluster/[a-z0-9]+",
                "an ARN like arn:aws:dsql:<region>:<account>:cluster/<id>",
            )
        ),
    )


@dataclass(frozen=True, kw_only=True)
class OpenSearch:
    """The domain behind Temporal's visibility."""

    engine: str = setting("OpenSearch_2.11", "engine version", matching(r"OpenSearch_\d+\.\d+", "like OpenSearch_2.11"))
    instance_type: str = setting(
        "m6g.large.search",
        "data node type",
        matching(r"[a-z0-9]+\.[a-z0-9]+\.search", "like m6g.large.search"),
    )
    instance_count: int = setting(3, "data nodes", between(1, 20))
    volume_gib: int = setting(100, "gp3 volume of each node, GiB", between(10, 2048))
    visibility_index: str = setting(
        "temporal_visibility_v1_dev",
        "Temporal's index",
        matching(r"[a-z][a-z0-9_-]*", "lower-case letters, digits, _ and -"),
    )


@dataclass(frozen=True, kw_only=True)
class Grafana:
    """Grafana's administrator."""

    secret: str = setting(
        "grafana/admin",
        "name of the secret with the password; made once, its value is never read",
        matching(r"[A-Za-z0-9/_+=.@-]{1,512}", "a Secrets Manager name"),
    )
    create_secret: bool = setting(True, "make it; false: it exists and belongs to another project")


@dataclass(frozen=True, kw_only=True)
class Logs:
    """CloudWatch Logs."""

    retention_days: int = setting(7, "for every log group", one_of(*LOG_RETENTION_DAYS))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The load generator's capacity and task."""

    max_instances: int = setting(4, "instances at most; they come and go with the runs", between(1, 10))
    cpu: int = setting(1024, "CPU units of one task", cpu)
    memory: int = setting(2048, "MiB of one task", memory)


PROTECTED_VARIABLES = frozenset(
    {
        "SERVICES",
        "AWS_REGION",
        "AWS_EC2_METADATA_DISABLED",
        "TEMPORAL_SQL_HOST",
        "TEMPORAL_SQL_PORT",
        "TEMPORAL_SQL_USER",
        "TEMPORAL_SQL_DATABASE",
        "TEMPORAL_SQL_PLUGIN_NAME",
        "TEMPORAL_SQL_TLS_ENABLED",
        "TEMPORAL_HISTORY_SHARDS",
        "TEMPORAL_ELASTICSEARCH_HOST",
        "TEMPORAL_ELASTICSEARCH_INDEX",
        "AMP_ENDPOINT",
        "TEMPORAL_ADDRESS",
        "TEMPORAL_UI_PORT",
        "GF_SERVER_HTTP_PORT",
        "GF_SECURITY_ADMIN_USER",  # secrets: what stands in tecs.toml would reach the state
        "GF_SECURITY_ADMIN_PASSWORD",
        "AOT_CONFIG_CONTENT",
    }
)
"""Variables that other parts of the stack depend on; overriding one would part the service from its cluster."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be set, complete and checked."""

    project: str = setting("temporal-dev", "names everything; at most 17 characters", project_name)
    region: str = setting("eu-west-1", "AWS region", matching(r"[a-z]{2}(-[a-z]+)+-\d", "a region like eu-west-1"))
    environment: str = setting(
        "development", "value of the Environment tag", matching(r"[\w .:/=+@-]{1,256}", "a tag value")
    )
    network: Network = Network()
    instances: Instances = Instances()
    temporal: Temporal = Temporal()
    services: Mapping[str, ServiceSettings] = field(
        default_factory=lambda: MappingProxyType(
            {s.name: ServiceSettings(cpu=s.cpu, memory=s.memory, count=s.count) for s in SERVICES.values()}
        )
    )
    images: Images = Images()
    dsql: Dsql = Dsql()
    opensearch: OpenSearch = OpenSearch()
    grafana: Grafana = Grafana()
    logs: Logs = Logs()
    benchmark: Benchmark = Benchmark()

    @property
    def counts(self) -> dict[str, int]:
        """Tasks of each service that `scale up` starts."""
        return {name: service.count for name, service in self.services.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """CPU units of one task of each service."""
        return {name: service.cpu for name, service in self.services.items()}

    def sized(self, preset: int | None) -> Config:
        """With the sizes and counts of a preset for Temporal's services; as it is for None."""
        if preset is None:
            return self
        services = {
            name: dataclasses.replace(own, count=size.count, cpu=size.cpu, memory=size.memory)
            for name, own in self.services.items()
            if (size := PRESETS[preset].get(name))
        }
        return dataclasses.replace(self, services=MappingProxyType({**self.services, **services}))

    def private_cidr(self, index: int) -> str:
        """The range of private subnet `index`: the VPC's prefix and 4 bits."""
        return self._subnet(4, index)

    @property
    def public_cidr(self) -> str:
        """The range of the NAT gateway's subnet: the VPC's prefix and 8 bits, the last one."""
        return self._subnet(8, 255)

    @property
    def zone_count(self) -> int:
        return len(self.network.availability_zones) or 2

    def iam_name(self, suffix: str) -> str:
        """IAM is global, so its names carry the region."""
        return f"{self.project}-{self.region}-{suffix}"

    def _subnet(self, bits: int, index: int) -> str:
        network = ipaddress.IPv4Network(self.network.cidr)
        step = 1 << (32 - network.prefixlen - bits)
        return f"{network.network_address + index * step}/{network.prefixlen + bits}"


# -- reading -------------------------------------------------------------------------------------------------


def load(
    path: Path | None,
    *,
    project: str | None = None,
    region: str | None = None,
    fallback_region: Callable[[], str | None] = lambda: None,
) -> Config:
    """Read tecs.toml; no file means all defaults. `project` and `region` win over the file; `fallback_region`
    is asked where neither names a region.

    Raises ConfigError listing every problem with its path.
    """
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not valid TOML: {error}", "Nothing was changed.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}", "Nothing was changed.") from None
    raw |= {k: v for k, v in (("project", project), ("region", region)) if v}
    if "region" not in raw and (fallback := fallback_region()):
        raw["region"] = fallback
    problems: list[str] = []
    config = cast(Config, _section(Config(), raw, "", problems))
    wrong = {problem.partition(": ")[0] for problem in problems}
    problems += (problem for among, problem in _across(config) if not wrong & among)
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
        raise ConfigError(
            f"{path or 'the configuration'} has {count}:\n" + "\n".join(f"  {p}" for p in problems),
            "Nothing was changed. `tecs init` writes a file with every setting explained.",
        )
    return config


def _section(base: Any, raw: Mapping[str, Any], path: str, problems: list[str]) -> Any:
    """`base` with what `raw` sets, checked; problems are appended."""
    hints = get_type_hints(type(base))
    known = {f.name: f for f in dataclasses.fields(base)}
    chosen: dict[str, Any] = {}
    for key, value in raw.items():
        where = f"{path}{key}"
        if key not in known:
            problems.append(f"{where}: unknown setting{_suggestion(key, known)}")
        elif key == "services":
            chosen[key] = _services(base.services, value, where, problems)
        elif dataclasses.is_dataclass(getattr(base, key)):
            if isinstance(value, dict):
                chosen[key] = _section(getattr(base, key), value, f"{where}.", problems)
            else:
                problems.append(f"{where}: must be a table, got {value!r}")
        else:
            converted, problem = _value(value, hints[key])
            check = known[key].metadata["check"]
            problem = problem or (check(converted) if check else None)
            if problem:
                got = "" if isinstance(value, dict) else f", got {value!r}"
                problems.append(f"{where}: {problem}{got}")
            else:
                chosen[key] = converted
    return dataclasses.replace(base, **chosen)


def _services(base: Mapping[str, Any], raw: Any, where: str, problems: list[str]) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        problems.append(f"{where}: must be a table, got {raw!r}")
        return base
    made = dict(base)
    for name, value in raw.items():
        if name not in base:
            problems.append(f"{where}.{name}: unknown service{_suggestion(name, base)}")
        elif not isinstance(value, dict):
            problems.append(f"{where}.{name}: must be a table, got {value!r}")
        else:
            made[name] = _section(base[name], value, f"{where}.{name}.", problems)
            problems += (
                f"{where}.{name}.environment.{variable}: is set by tecs and must not change"
                for variable in sorted(PROTECTED_VARIABLES & made[name].environment.keys())
            )
            problems += (
                f"{where}.{name}.environment: {variable!r} is no name of a variable"
                for variable in made[name].environment
                if not re.fullmatch(r"[A-Za-z_]\w*", variable)
            )
    return MappingProxyType(made)


def _value(value: Any, hint: Any) -> tuple[Any, str | None]:
    """`value` as `hint` wants it, or what is wrong."""
    origin = get_origin(hint)
    if origin is tuple:
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value), None
        return None, "must be a list of strings"
    if origin is Mapping or hint is Mapping or (origin and get_args(hint) == (str, str)):
        if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
            return MappingProxyType(dict(value)), None
        return None, "must be a table of strings"
    if hint is bool and not isinstance(value, bool):
        return None, "must be true or false"
    if hint is int and (not isinstance(value, int) or isinstance(value, bool)):
        return None, "must be a whole number"
    if hint is str and not isinstance(value, str):
        return None, "must be a string"
    return value, None


def _across(config: Config) -> Iterator[tuple[set[str], str]]:
    """Problems that only show between settings, each with the settings that it is about."""
    among = {"network.availability_zones", "region"}
    for index, zone in enumerate(config.network.availability_zones):
        if not zone.startswith(config.region):
            yield among, f"network.availability_zones[{index}]: {zone!r} is not in region {config.region}"
    among = {"dsql.endpoint", "dsql.arn"}
    if bool(config.dsql.endpoint) != bool(config.dsql.arn):
        missing = "arn" if config.dsql.endpoint else "endpoint"
        yield among, f"dsql.{missing}: must be set too: an existing cluster needs both endpoint and arn"
    elif config.dsql.endpoint and config.dsql.endpoint.split(".")[0] != config.dsql.arn.rpartition("/")[2]:
        yield among, f"dsql.arn: names another cluster than dsql.endpoint ({config.dsql.endpoint})"
    if config.dsql.arn and config.dsql.arn.split(":")[3] != config.region:
        yield {"dsql.arn", "region"}, f"dsql.arn: is in {config.dsql.arn.split(':')[3]}, the stack in {config.region}"
    longest = config.iam_name("opensearch-setup-task")
    if len(longest) > 64:
        problem = f"project: {longest} would be {len(longest)} characters; IAM role names take 64 at most"
        yield {"project", "region"}, problem


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, known, 1)
    return f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


# -- the example ---------------------------------------------------------------------------------------------


def example() -> str:
    """A tecs.toml with every setting at its default and one comment each; commented out, so it changes nothing."""
    lines = [
        "# tecs.toml: settings of one Temporal cluster. Every line shows a default; remove the # to change it.",
        "",
    ]
    config = Config()
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if f.name == "services":
            for name, service in value.items():
                lines += _table(f"services.{name}", service, first=name == TEMPORAL[0].name)
        elif dataclasses.is_dataclass(value):
            lines += _table(f.name, value)
        else:
            lines.append(_line(f, value))
    return "\n".join(lines) + "\n"


def _table(name: str, section: Any, *, first: bool = True) -> Iterator[str]:
    yield ""
    if first:
        yield f"# {(type(section).__doc__ or '').strip()}"
    yield f"[{name}]"
    for f in dataclasses.fields(section):
        yield _line(f, getattr(section, f.name), comment=first)


def _line(f: dataclasses.Field[Any], value: Any, *, comment: bool = True) -> str:
    import json

    text = "{}" if isinstance(value, Mapping) else json.dumps(value)
    return f"# {f.name} = {text}" + (f"  # {f.metadata['doc']}" if comment else "")
