"""Wrong requests are refused before they leave; right ones, and unknown enum values on request, pass."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import boto3
import botocore.session
import pytest

from temporal_ecs import strict

_models: dict[str, Any] = {}


def examine(service: str, operation: str, /, **params: Any) -> list[str]:
    if service not in _models:
        _models[service] = botocore.session.get_session().get_service_model(service)
    shape = _models[service].operation_model(operation).input_shape
    return [str(problem) for problem in strict.examine(service, operation, params, shape)]


def container(**changes: Any) -> dict[str, Any]:
    return {"name": "main", "image": "i", "memory": 128, **changes}


def task(*containers: dict[str, Any], **changes: Any) -> list[str]:
    definitions = list(containers) or [container()]
    return examine("ecs", "RegisterTaskDefinition", family="f", containerDefinitions=definitions, **changes)


def fargate(cpu: str | None, memory: str | None, **changes: Any) -> list[str]:
    sizes = {name: value for name, value in (("cpu", cpu), ("memory", memory)) if value}
    return task(requiresCompatibilities=["FARGATE"], **{"networkMode": "awsvpc", **sizes, **changes})


def service(**changes: Any) -> list[str]:
    return examine("ecs", "CreateService", serviceName="s", **changes)


def ingress(**changes: Any) -> list[str]:
    permission = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "IpRanges": [{"CidrIp": "10.0.0.0/8"}], **changes}
    return examine("ec2", "AuthorizeSecurityGroupIngress", GroupId="sg-1", IpPermissions=[permission])


def tagged(key: str, value: str) -> list[str]:
    specification = {"ResourceType": "vpc", "Tags": [{"Key": key, "Value": value}]}
    return examine("ec2", "CreateVpc", TagSpecifications=[specification])


TRUST = json.dumps({"Statement": [{}]})

RIGHT = {
    "task": task(container(healthCheck={"command": ["CMD", "x"], "interval": 5, "timeout": 120}, stopTimeout=120)),
    "sized in words": task(cpu="1 vCPU", memory="2 GB"),
    "ec2 task": task({"name": "m", "image": "i"}, cpu="2048", memory="8192", requiresCompatibilities=["EC2"]),
    "fargate": fargate("1024", "8192"),
    "fargate large": fargate("16384", "122880"),
    "service": service(
        deploymentConfiguration={"maximumPercent": 200, "minimumHealthyPercent": 100}, clientToken="x" * 36
    ),
    "rule": ingress(IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "a b._-:/()#,@[]+=&;{}!$*"}]),
    "rule for all": ingress(IpProtocol="-1", FromPort=None, ToPort=None),
    "protocol number": ingress(IpProtocol="255"),
    "tags": tagged("tecs:name", "v" * 256),
    "template": examine(
        "ec2",
        "CreateLaunchTemplate",
        LaunchTemplateName="abc",
        LaunchTemplateData={"UserData": base64.b64encode(b"x" * 16384).decode()},
    ),
    "group": examine(
        "autoscaling",
        "CreateAutoScalingGroup",
        AutoScalingGroupName="gé",
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=2,
        HealthCheckType="EC2,EBS",
    ),
    "provider": examine("ecs", "CreateCapacityProvider", name="temporal-ecs"),
    "policy": examine(
        "iam",
        "PutRolePolicy",
        RoleName="r",
        PolicyName="p",
        PolicyDocument=json.dumps({"Statement": [{}], "x": " " * 10240}),
    ),
    "retention": examine("logs", "PutRetentionPolicy", logGroupName="g", retentionInDays=7),
    "advanced": examine("ssm", "PutParameter", Name="n", Value="x" * 8192, Type="String", Tier="Advanced"),
    "unicode tag": examine("ecs", "TagResource", resourceArn="a", tags=[{"key": "naïve", "value": "日本"}]),
    "uuid": examine("servicediscovery", "GetOperation", OperationId="abc"),
}

WRONG = {
    "required": (examine("ecs", "RegisterTaskDefinition", family="f"), "containerDefinitions: is required"),
    "unknown member": (examine("ecs", "CreateCluster", clusterNam="x"), "clusterNam: is no member"),
    "nested enum": (
        task(container(logConfiguration={"logDriver": "awslog"})),
        "containerDefinitions[0].logConfiguration.logDriver: 'awslog' is none of",
    ),
    "pattern": (examine("dsql", "GetCluster", identifier="BAD"), "identifier: 'BAD' doesn't match [a-z0-9]{26}"),
    "java pattern": (
        examine("iam", "CreateRole", RoleName="r r", AssumeRolePolicyDocument=TRUST),
        "RoleName: 'r r' doesn't match",
    ),
    "length": (
        examine("opensearch", "CreateDomain", DomainName="n" * 29),
        "DomainName: 29 characters is above the maximum of 28",
    ),
    "range": (
        examine(
            "ecs",
            "CreateCapacityProvider",
            name="n",
            autoScalingGroupProvider={"autoScalingGroupArn": "a", "managedScaling": {"targetCapacity": 500}},
        ),
        "targetCapacity: 500 is above",
    ),
    "list length": (
        examine(
            "autoscaling",
            "SetInstanceProtection",
            InstanceIds=["i" * 20],
            AutoScalingGroupName="g",
            ProtectedFromScaleIn=True,
        ),
        "InstanceIds[0]: 20 characters",
    ),
    "family": (
        examine("ecs", "RegisterTaskDefinition", family="a b", containerDefinitions=[container()]),
        "family: must be",
    ),
    "no container": (
        examine("ecs", "RegisterTaskDefinition", family="a", containerDefinitions=[]),
        "must hold a container",
    ),
    "container names": (task(container(), container()), "[1].name: container names must be unique"),
    "none essential": (task(container(essential=False)), "must hold an essential container"),
    "port": (task(container(portMappings=[{"containerPort": 70000}])), "containerPort: must be from 1 to 65535"),
    "port name": (task(container(portMappings=[{"containerPort": 1, "name": "Grpc"}])), "lower-case"),
    "port names": (
        task(container(portMappings=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}])),
        "port names must be unique",
    ),
    "interval": (task(container(healthCheck={"command": ["CMD"], "interval": 1})), "interval: must be from 5 to 300"),
    "timeout": (task(container(healthCheck={"command": ["CMD"], "timeout": 1})), "timeout: must be from 2 to 120"),
    "retries": (task(container(healthCheck={"command": ["CMD"], "retries": 11})), "retries: must be from 1 to 10"),
    "start period": (
        task(container(healthCheck={"command": ["CMD"], "startPeriod": 301})),
        "startPeriod: must be from 0",
    ),
    "health command": (task(container(healthCheck={"command": ["nc", "-z"]})), "must start with CMD"),
    "stop timeout": (task(container(stopTimeout=121)), "stopTimeout: must be from 2 to 120"),
    "memory": (task(container(memory=3)), "memory: must be from 4"),
    "no memory": (task({"name": "m", "image": "i"}), "[0].memory: is required"),
    "cpu": (task(cpu="64"), "cpu: must be from 128"),
    "volume": (task(container(mountPoints=[{"sourceVolume": "v"}])), "there is no volume 'v'"),
    "depends": (
        task(container(dependsOn=[{"containerName": "other", "condition": "START"}])),
        "there is no container 'other'",
    ),
    "fargate pair": (fargate("256", "8192"), "Fargate has no size"),
    "fargate step": (fargate("8192", "17408"), "Fargate has no size"),
    "fargate without cpu": (fargate(None, "512"), "Fargate has no size"),
    "fargate network": (fargate("256", "512", networkMode="bridge"), "must be awsvpc"),
    "cluster": (examine("ecs", "CreateCluster", clusterName="a b"), "clusterName: must be"),
    "provider": (examine("ecs", "CreateCapacityProvider", name="Fargate-x"), "not start with aws"),
    "service name": (examine("ecs", "CreateService", serviceName="a.b"), "serviceName: must be"),
    "token": (service(clientToken="x" * 37), "clientToken: must be"),
    "percents": (
        service(deploymentConfiguration={"maximumPercent": 100, "minimumHealthyPercent": 100}),
        "must be above minimumHealthyPercent 100",
    ),
    "desired": (service(desiredCount=-1), "desiredCount: must be from 0"),
    "both": (
        service(launchType="EC2", capacityProviderStrategy=[{"capacityProvider": "c"}]),
        "can't be given with launchType",
    ),
    "bases": (service(capacityProviderStrategy=[{"capacityProvider": c, "base": 1} for c in "ab"]), "one base only"),
    "aliases": (
        service(
            serviceConnectConfiguration={
                "enabled": True,
                "services": [{"portName": "p", "clientAliases": [{"port": 1}, {"port": 2}]}],
            }
        ),
        "at most 1 alias",
    ),
    "update": (examine("ecs", "UpdateService", service="s", desiredCount=-1), "desiredCount"),
    "count": (examine("ecs", "RunTask", taskDefinition="t", count=11), "count: must be from 1 to 10"),
    "eleven services": (examine("ecs", "DescribeServices", services=["s"] * 11), "at most 10 services"),
    "eleven definitions": (
        examine("ecs", "DeleteTaskDefinitions", taskDefinitions=["t"] * 11),
        "at most 10 definitions",
    ),
    "group name": (examine("ec2", "CreateSecurityGroup", GroupName="sg-x", Description="d"), "GroupName"),
    "group length": (examine("ec2", "CreateSecurityGroup", GroupName="x" * 256, Description="d"), "GroupName"),
    "group text": (examine("ec2", "CreateSecurityGroup", GroupName="x", Description="dé"), "Description"),
    "rule text": (
        ingress(IpRanges=[{"CidrIp": "10.0.0.0/8", "Description": "frontend → history"}]),
        "IpRanges[0].Description",
    ),
    "rule port": (ingress(ToPort=70000), "not 1 to 70000"),
    "rule order": (ingress(FromPort=3), "not 3 to 2"),
    "rule without ports": (ingress(FromPort=None), "not None to 2"),
    "protocol": (ingress(IpProtocol="tpc"), "IpProtocol: must be tcp"),
    "user data": (examine("ec2", "CreateLaunchTemplateVersion", LaunchTemplateData={"UserData": "x" * 21852}), "16 KB"),
    "tag key": (tagged("k" * 129, "v"), "Tags[0].Key: must be 1 to 128"),
    "tag prefix": (tagged("aws:x", "v"), "don't start with aws:"),
    "tag value": (tagged("k", "v" * 257), "Tags[0].Value: must have at most 256"),
    "capacity": (
        examine(
            "autoscaling", "CreateAutoScalingGroup", AutoScalingGroupName="g", MinSize=0, MaxSize=2, DesiredCapacity=3
        ),
        "between min 0 and max 2",
    ),
    "health type": (
        examine("autoscaling", "UpdateAutoScalingGroup", AutoScalingGroupName="g", HealthCheckType="NOPE"),
        "known health checks",
    ),
    "trust": (
        examine("iam", "CreateRole", RoleName="r", AssumeRolePolicyDocument="{"),
        "AssumeRolePolicyDocument: isn't JSON",
    ),
    "no statement": (examine("iam", "CreateRole", RoleName="r", AssumeRolePolicyDocument="{}"), "without a Statement"),
    "policy size": (
        examine(
            "iam",
            "PutRolePolicy",
            RoleName="r",
            PolicyName="p",
            PolicyDocument=json.dumps({"Statement": ["x" * 10240]}),
        ),
        "quota of 10240",
    ),
    "retention": (
        examine("logs", "PutRetentionPolicy", logGroupName="g", retentionInDays=8),
        "retentionInDays: must be one of 1, 3",
    ),
    "standard": (
        examine("ssm", "PutParameter", Name="n", Value="é" * 2049, Type="String"),
        "has 4098 bytes, more than 4096",
    ),
    "advanced": (
        examine("ssm", "PutParameter", Name="n", Value="x" * 8193, Type="String", Tier="Advanced"),
        "more than 8192",
    ),
    "overwrite": (
        examine(
            "ssm", "PutParameter", Name="n", Value="x", Type="String", Overwrite=True, Tags=[{"Key": "k", "Value": "v"}]
        ),
        "can't be given with Overwrite",
    ),
    "namespace": (examine("servicediscovery", "CreateHttpNamespace", Name="a b", CreatorRequestId="x"), "Name"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_aws_takes_passes(name):
    assert RIGHT[name] == []


@pytest.mark.parametrize("name", WRONG)
def test_what_aws_refuses_is_refused(name):
    problems, text = WRONG[name]
    assert any(text in problem for problem in problems), problems


def test_every_pattern_of_every_service_of_the_stack_can_be_checked():
    session, unsaid = botocore.session.get_session(), set()
    for name in [
        "ec2",
        "iam",
        "sts",
        "ecs",
        "autoscaling",
        "opensearch",
        "servicediscovery",
        "dsql",
        "amp",
        "logs",
        "ssm",
        "secretsmanager",
        "ecr",
        "resourcegroupstaggingapi",
    ]:
        model = session.get_service_model(name)
        for shape in model.shape_names:
            pattern = model.shape_for(shape).metadata.get("pattern")
            if pattern and strict._compile(pattern) is None:
                unsaid.add(pattern)
    assert len(unsaid) == 1  # Auto Scaling's class of UTF-16 surrogates, which means any text


@pytest.fixture
def client() -> Any:
    """Clients whose requests would go nowhere."""

    def make(service: str, handler: Any) -> Any:
        session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-west-1")
        session.events.register_last("before-parameter-build", handler)
        return session.client(service, endpoint_url="http://127.0.0.1:9")

    return make


def test_the_hook_refuses_before_anything_leaves(client):
    with pytest.raises(strict.InvalidRequest) as caught:
        client("ecs", strict.hook()).create_cluster(clusterName="a b")
    error = caught.value
    assert (error.service, error.operation, error.problems[0].path) == ("ecs", "CreateCluster", "clusterName")
    assert "ecs CreateCluster: clusterName: must be" in str(error)


def test_generated_tokens_count_as_given(client):
    with pytest.raises(strict.InvalidRequest) as caught:
        client("dsql", strict.hook()).delete_cluster(identifier="BAD")
    assert [problem.path for problem in caught.value.problems] == ["identifier"]


def test_an_unknown_enum_value_is_reported_and_passes(client):
    reported: list[str] = []
    wanted = {"family": "f", "containerDefinitions": [container()], "runtimePlatform": {"cpuArchitecture": "RISCV"}}
    with pytest.raises(Exception, match="Could not connect"):
        client("ecs", strict.hook(reported.append)).register_task_definition(**wanted)
    assert reported[0].startswith("ecs RegisterTaskDefinition: runtimePlatform.cpuArchitecture: 'RISCV'")
    with pytest.raises(strict.InvalidRequest) as caught:
        client("ecs", strict.hook()).register_task_definition(**wanted)
    assert caught.value.problems[0].unknown_enum
    with pytest.raises(strict.InvalidRequest):  # another problem beside it is still refused
        client("ecs", strict.hook(reported.append)).register_task_definition(**{**wanted, "family": "a b"})


def test_it_imports_neither_boto3_nor_moto():
    unwanted = ("boto3", "botocore", "moto", "click")
    code = f"import sys, temporal_ecs.strict; print([m for m in {unwanted} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
