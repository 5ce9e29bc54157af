"""Task definitions: the seven services', the benchmark's and the OpenSearch set-up's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from temporal_ecs.resource import ENVIRONMENT, Live, Ref, Resource, declared
from temporal_ecs.services import FRONTEND_GRPC, METRICS, SERVICES, Service, connection_limits

if TYPE_CHECKING:
    from temporal_ecs.aws import Aws
    from temporal_ecs.config import Config

Container = dict[str, Any]

STOP_TIMEOUT = 120
"""Seconds between SIGTERM and SIGKILL: above Temporal's drain, shard linger and membership alignment."""


@dataclass(frozen=True, kw_only=True)
class TaskDefinition(Resource):
    """A family; its id is the newest active revision. Every change registers a successor, older ones stay for
    going back.

    `container` is AWS's container definition with `environment` and `secrets` as plain mappings. The image
    belongs to `deploy` unless tecs.toml names one.
    """

    family: str
    compatibility: str
    cpu: int
    memory: int
    execution_role: str | Ref
    task_role: str | Ref
    container: Container
    network_mode: str = "awsvpc"
    architecture: str = "ARM64"
    image: str | None = None
    first_image: str | Ref = ""

    group = "tasks"
    tagging = "ecs"
    absent = frozenset({"ClientException: Unable to describe task definition"})
    renewed = frozenset(
        {
            "compatibility",
            "cpu",
            "memory",
            "network_mode",
            "architecture",
            "execution_role",
            "task_role",
            "container",
            "image",
        }
    )
    initial = frozenset({"first_image"})
    unread = frozenset({"first_image"})

    def find(self, aws: Aws, id: str | None) -> Live | None:  # noqa: A002
        """The family's newest revision; ours by its id, where another tool registered a newer one."""
        answer = aws.answer(self, "ecs", "describe_task_definition", taskDefinition=self.family, include=["TAGS"])
        if id and answer["taskDefinition"]["taskDefinitionArn"] != id and not aws.owns(self, _tags(answer)):
            answer = aws.answer(self, "ecs", "describe_task_definition", taskDefinition=id, include=["TAGS"])
        row = answer["taskDefinition"]
        if row["status"] != "ACTIVE":
            return None
        container = _readable(row["containerDefinitions"][0])
        return {
            "id": row["taskDefinitionArn"],
            "family": row["family"],
            "compatibility": row.get("requiresCompatibilities", [""])[0],
            "cpu": int(row.get("cpu") or 0),
            "memory": int(row.get("memory") or 0),
            "network_mode": row["networkMode"],
            "architecture": row.get("runtimePlatform", {}).get("cpuArchitecture", ""),
            "execution_role": row.get("executionRoleArn"),
            "task_role": row.get("taskRoleArn"),
            "image": container.pop("image"),
            "container": declared(container, self.container) | _variables(container),
            "arn": row["taskDefinitionArn"],
            "tags": _tags(answer),
        }

    def create(self, aws: Aws, token: str) -> str:  # noqa: ARG002
        return self._register(aws, str(self.image or self.first_image))

    def update(self, aws: Aws, live: Live, changed: set[str]) -> str:  # noqa: ARG002
        return self._register(aws, str(self.image or live["image"]))

    def delete(self, aws: Aws, live: Live) -> None:  # noqa: ARG002
        """All revisions of ours: deregistered, then deleted; ECS keeps those that a task uses until it ends.

        Another tool may have left revisions in a family of the same name: they stay.
        """
        for status in ("ACTIVE", "INACTIVE"):
            pages = aws.ecs.get_paginator("list_task_definitions").paginate(familyPrefix=self.family, status=status)
            family = [a for page in pages for a in page["taskDefinitionArns"] if f"/{self.family}:" in a]
            arns = [arn for arn in family if aws.owns(self, aws.tags_of(self, {"arn": arn}))]
            if status == "ACTIVE":
                for arn in arns:
                    aws.ecs.deregister_task_definition(taskDefinition=arn)
            else:
                for start in range(0, len(arns), 10):  # the API's batch
                    aws.ecs.delete_task_definitions(taskDefinitions=arns[start : start + 10])

    def _register(self, aws: Aws, image: str) -> str:
        definition = {
            **self.container,
            "image": image,
            "environment": [{"name": k, "value": v} for k, v in self.container.get("environment", {}).items()],
            "secrets": [{"name": k, "valueFrom": v} for k, v in self.container.get("secrets", {}).items()],
        }
        made = aws.once("ecs").register_task_definition(
            family=self.family,
            networkMode=self.network_mode,
            requiresCompatibilities=[self.compatibility],
            cpu=str(self.cpu),
            memory=str(self.memory),
            runtimePlatform={"cpuArchitecture": self.architecture, "operatingSystemFamily": "LINUX"},
            executionRoleArn=self.execution_role,
            taskRoleArn=self.task_role,
            containerDefinitions=[{k: v for k, v in definition.items() if v}],
            tags=aws.tag_list(self, "key", "value"),
        )
        return str(made["taskDefinition"]["taskDefinitionArn"])


def _tags(answer: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in answer.get("tags", ())}


def _readable(row: Mapping[str, Any]) -> Container:
    """A container definition with environment and secrets as mappings, without the port that ECS repeats."""
    container = dict(row)
    container["environment"] = {each["name"]: each["value"] for each in row.get("environment", ())}
    container["secrets"] = {each["name"]: each["valueFrom"] for each in row.get("secrets", ())}
    return container


def _variables(container: Container) -> Container:
    """Environment and secrets, whole: one too many is a change too."""
    return {key: container[key] for key in ("environment", "secrets") if container[key]}


# -- containers ----------------------------------------------------------------------------------------------


def _container(config: Config, title: str, *, name: str = "", **rest: Any) -> Container:
    """What all containers have in common; `rest` that is empty is left out."""
    logs = {
        "awslogs-group": f"/ecs/{config.project}/{title}",
        "awslogs-region": config.region,
        "awslogs-stream-prefix": title,
    }
    return {
        "name": name or title,
        "essential": True,
        "logConfiguration": {"logDriver": "awslogs", "options": logs},
        "linuxParameters": {"initProcessEnabled": True},  # ECS Exec wants an init process
        **{key: value for key, value in rest.items() if value},
    }


def _port(number: int, name: str, protocol: str | None = None) -> dict[str, Any]:
    application = {"appProtocol": protocol} if protocol else {}
    return {"containerPort": number, "protocol": "tcp", "name": name, **application}


def _shell_check(command: str, start: int) -> dict[str, Any]:
    command = f"{command} || exit 1"
    return {
        "command": ["CMD-SHELL", command],
        "interval": 30,
        "timeout": 5,
        "retries": 3,
        "startPeriod": start,
    }


def _health(service: Service) -> dict[str, Any]:
    """NOT_SERVING until a History task has its shards, so a rolling deployment waits for what matters.

    The worker serves no gRPC health; its ringpop port opens once it has joined.
    """
    if service.name == "worker":
        return _shell_check(f"nc -z localhost {service.membership}", 60)
    served = {"history": "HistoryService", "matching": "MatchingService", "frontend": "WorkflowService"}
    name = f"temporal.api.workflowservice.v1.{served[service.name]}"
    return _shell_check(f"grpc_health_probe -addr=localhost:{service.grpc} -service={name}", 60)


def _temporal(config: Config, service: Service) -> Container:
    limit = connection_limits(config.counts, config.sizes)[service.name]
    environment: dict[str, str | Ref] = {
        "SERVICES": service.name,
        "TEMPORAL_SQL_HOST": config.dsql.endpoint or Ref("dsql", "endpoint"),
        "TEMPORAL_SQL_PORT": "5432",
        "TEMPORAL_SQL_USER": "admin",
        "TEMPORAL_SQL_DATABASE": "postgres",
        "TEMPORAL_SQL_PLUGIN": "dsql",
        "TEMPORAL_SQL_PLUGIN_NAME": "dsql",
        "TEMPORAL_SQL_TLS_ENABLED": "true",
        "TEMPORAL_SQL_IAM_AUTH": "true",
        # As many idle as open, and nearly DSQL's 60 minutes: a pool that churns eats the connection budget.
        "TEMPORAL_SQL_MAX_CONNS": str(limit.pool),
        "TEMPORAL_SQL_MAX_IDLE_CONNS": str(limit.pool),
        "TEMPORAL_SQL_CONNECTION_TIMEOUT": "30s",
        "TEMPORAL_SQL_MAX_CONN_LIFETIME": "55m",
        "DSQL_CONNECTION_RATE_LIMIT": str(limit.rate),
        "DSQL_CONNECTION_BURST_LIMIT": str(limit.burst),
        "TEMPORAL_ELASTICSEARCH_HOST": Ref("opensearch", "endpoint"),
        "TEMPORAL_ELASTICSEARCH_PORT": "443",
        "TEMPORAL_ELASTICSEARCH_SCHEME": "https",
        "TEMPORAL_ELASTICSEARCH_VERSION": "v8",
        "TEMPORAL_ELASTICSEARCH_INDEX": config.opensearch.visibility_index,
        "AWS_EC2_METADATA_DISABLED": "true",  # the task's role, never the host's
        "AWS_REGION": config.region,
        "TEMPORAL_SQL_AWS_REGION": config.region,
        "TEMPORAL_PERSISTENCE_TEMPLATE": "/etc/temporal/config/persistence-dsql-opensearch.template.yaml",
        "TEMPORAL_LOG_LEVEL": "info",
        "TEMPORAL_HISTORY_SHARDS": str(config.temporal.history_shards),
        "PROMETHEUS_ENDPOINT": f"0.0.0.0:{METRICS}",
    }
    assert service.grpc is not None
    assert service.membership is not None
    return _container(
        config,
        service.title,
        portMappings=[
            _port(service.grpc, "grpc", "grpc"),
            _port(service.membership, "membership"),
            _port(METRICS, "metrics"),
        ],
        environment={**environment, **config.services[service.name].environment},
        healthCheck=_health(service),
        stopTimeout=STOP_TIMEOUT,
    )


def _ui(config: Config, service: Service) -> Container:
    assert service.http is not None
    environment = {
        "TEMPORAL_ADDRESS": f"temporal-frontend:{FRONTEND_GRPC}",
        "TEMPORAL_CORS_ORIGINS": f"http://localhost:{service.http}",
        "TEMPORAL_UI_PORT": str(service.http),
    }
    return _container(
        config,
        service.title,
        portMappings=[_port(service.http, "http")],
        environment={**environment, **config.services["ui"].environment},
        healthCheck=_shell_check(f"wget -nv --spider --tries=1 http://localhost:{service.http}", 30),
    )


def _grafana(config: Config, service: Service) -> Container:
    assert service.http is not None
    environment: dict[str, str | Ref] = {
        "GF_SERVER_HTTP_PORT": str(service.http),
        "GF_AUTH_SIGV4_AUTH_ENABLED": "true",
        "AWS_SDK_LOAD_CONFIG": "true",
        "AMP_ENDPOINT": Ref("prometheus", "endpoint"),
        "AWS_REGION": config.region,
        "GF_AUTH_ANONYMOUS_ENABLED": "false",
        "GF_LOG_MODE": "console",
        "GF_LOG_LEVEL": "info",
    }
    return _container(
        config,
        service.title,
        portMappings=[_port(service.http, "http")],
        environment={**environment, **config.services["grafana"].environment},
        secrets={
            "GF_SECURITY_ADMIN_USER": Ref("grafana-secret", "arn", "{}:admin_user::"),
            "GF_SECURITY_ADMIN_PASSWORD": Ref("grafana-secret", "arn", "{}:admin_password::"),
        },
        healthCheck=_shell_check(f"wget -nv --spider --tries=1 http://localhost:{service.http}/api/health", 60),
    )


def _adot(config: Config, service: Service) -> Container:
    return _container(
        config,
        service.title,
        name="adot-collector",
        user="0",  # the image's own user may not write the observer's list of targets
        command=["--config", "env:AOT_CONFIG_CONTENT"],
        environment={"AWS_REGION": config.region, **config.services["adot"].environment},
        secrets={"AOT_CONFIG_CONTENT": Ref("adot-config", "arn")},
    )


def _benchmark(config: Config) -> Container:
    environment = {
        "TEMPORAL_ADDRESS": f"temporal-frontend:{FRONTEND_GRPC}",
        "BENCHMARK_NAMESPACE": "benchmark",
        "BENCHMARK_WORKFLOW_TYPE": "simple",
        "BENCHMARK_TARGET_RATE": "100",
        "BENCHMARK_DURATION": "5m",
        "BENCHMARK_RAMP_UP": "30s",
        "BENCHMARK_WORKER_COUNT": "4",
        "BENCHMARK_ITERATIONS": "1",
        "BENCHMARK_MAX_P99_LATENCY": "5s",
        "BENCHMARK_MIN_THROUGHPUT": "50",
    }
    return _container(config, "benchmark", portMappings=[_port(METRICS, "metrics")], environment=environment)


def _opensearch_setup(config: Config) -> Container:
    """Wait for the domain, then install Temporal's template and index; the first failing step ends the task."""
    tool = 'temporal-elasticsearch-tool --ep "https://$OPENSEARCH_HOST:443" --aws-credentials aws-sdk-default --tls'
    script = f"""set -eu
tries=0
until {tool} ping; do
  tries=$((tries + 1))
  [ "$tries" -lt 30 ] || {{ echo "OpenSearch does not answer" >&2; exit 1; }}
  sleep 10
done
{tool} setup-schema
{tool} create-index --index "$VISIBILITY_INDEX"
echo "visibility index is set up"
"""
    environment = {
        "AWS_REGION": config.region,
        "OPENSEARCH_HOST": Ref("opensearch", "endpoint"),
        "VISIBILITY_INDEX": config.opensearch.visibility_index,
    }
    return _container(config, "opensearch-setup", command=["/bin/sh", "-c", script], environment=environment)


def declare(config: Config) -> Iterator[Resource]:
    made = {service.title: _temporal(config, service) for service in SERVICES.values() if service.temporal} | {
        "temporal-ui": _ui(config, SERVICES["ui"]),
        "grafana": _grafana(config, SERVICES["grafana"]),
        "adot": _adot(config, SERVICES["adot"]),
    }
    images = config.images
    for service in SERVICES.values():
        settings = config.services[service.name]
        image, repository = {
            "ui": (images.ui, ""),
            "adot": (images.adot, ""),
            "grafana": (images.grafana, "temporal-grafana"),
        }.get(service.name, (images.temporal, "temporal-dsql-runtime"))
        yield TaskDefinition(
            name=f"{service.title}-task",
            family=f"{config.project}-{service.title}",
            compatibility="EC2",
            cpu=settings.cpu,
            memory=settings.memory,
            execution_role=Ref("ecs-execution-role", "arn"),
            task_role=Ref(f"{service.role}-role", "arn"),
            container=made[service.title],
            image=image or None,
            first_image=_unpublished(config, repository) if repository else "",
            labels={"Service": "adot-collector" if service.name == "adot" else service.name},
            after=(f"{service.title}-logs",),
        )
    for title, compatibility, cpu, memory, container, image, repository in (
        (
            "benchmark",
            "EC2",
            config.benchmark.cpu,
            config.benchmark.memory,
            _benchmark(config),
            images.benchmark,
            "temporal-benchmark",
        ),
        (
            "opensearch-setup",
            "FARGATE",
            256,
            512,
            _opensearch_setup(config),
            images.admin_tools,
            "temporal-dsql-admin-tools",
        ),
    ):
        yield TaskDefinition(
            name=f"{title}-task",
            family=f"{config.project}-{title}",
            compatibility=compatibility,
            cpu=cpu,
            memory=memory,
            execution_role=Ref("ecs-execution-role", "arn"),
            task_role=Ref(f"{title}-task-role", "arn"),
            container=container,
            image=image or None,
            first_image=_unpublished(config, repository),
            labels={"Service": title},
            after=(f"{title}-logs",),
        )


def _unpublished(config: Config, repository: str) -> Ref:
    """The image until one is pushed; `scale up` refuses it and names the command."""
    if config.images.create_repositories:
        return Ref(f"{repository}-repository", "uri", "{}:unpublished")
    return Ref(ENVIRONMENT, "registry", f"{{}}/{repository}:unpublished")
