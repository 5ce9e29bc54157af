"""tecs.toml: every rule, every problem at once, and an example that changes nothing."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_ecs.config import LOG_RETENTION_DAYS, MAX_ZONES, PROTECTED_VARIABLES, Config, example, load
from temporal_ecs.errors import USAGE, ConfigError
from temporal_ecs.services import SERVICES, surge

Load = Callable[..., Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Loads the settings that a text says."""

    def load_text(text: str, **options: Any) -> Config:
        path = tmp_path / "tecs.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, **options)

    return load_text


@pytest.fixture
def problems(loaded: Load) -> Callable[..., list[str]]:
    """What is wrong with a text, problem by problem."""

    def problems_of(text: str, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, **options)
        assert caught.value.status == USAGE == 2
        assert "Nothing was changed" in caught.value.hint
        assert "tecs init" in caught.value.hint
        first, *rest = caught.value.message.split("\n")
        assert re.fullmatch(r".*/tecs\.toml has (a problem|\d+ problems):", first)
        assert len(rest) == (1 if "a problem" in first else int(first.split()[-2]))
        return [line.strip() for line in rest]

    return problems_of


# ------------------------------------------------------------------------------------------------ defaults


def test_without_a_file_everything_is_at_its_default():
    config = load(None)
    assert config == Config()
    assert (config.project, config.region) == ("temporal-dev", "eu-west-1")
    assert config.network.cidr == "10.0.0.0/16"
    assert config.network.availability_zones == ()
    assert (config.instances.type, config.instances.count) == ("m7g.xlarge", 6)
    assert config.temporal.history_shards == 4096
    assert {name: (s.cpu, s.memory, s.count) for name, s in config.services.items()} == {
        "history": (2048, 8192, 4),
        "matching": (1024, 4096, 3),
        "frontend": (1024, 4096, 2),
        "worker": (1024, 4096, 2),
        "ui": (256, 512, 1),
        "grafana": (256, 512, 1),
        "adot": (256, 512, 1),
    }
    assert (config.dsql.endpoint, config.dsql.arn) == ("", "")
    assert config.opensearch.visibility_index == "temporal_visibility_v1_dev"
    assert (config.grafana.secret, config.logs.retention_days) == ("grafana/admin", 7)
    assert (config.benchmark.max_instances, config.benchmark.cpu, config.benchmark.memory) == (4, 1024, 2048)
    assert list(config.services) == list(SERVICES), "in the order in which they are started"


def test_what_the_file_sets_is_taken_and_the_rest_stays(loaded):
    config = loaded(
        """
        project = "prod"
        [network]
        availability_zones = ["eu-west-1b", "eu-west-1c", "eu-west-1a"]
        [services.history]
        count = 6
        environment = { LOG_LEVEL = "debug" }
        [images]
        create_repositories = false
        """
    )
    assert config.project == "prod"
    assert config.network.availability_zones == ("eu-west-1b", "eu-west-1c", "eu-west-1a")
    assert config.zone_count == 3
    assert config.network.cidr == "10.0.0.0/16"
    assert (config.services["history"].count, config.services["history"].cpu) == (6, 2048)
    assert config.services["history"].environment == {"LOG_LEVEL": "debug"}
    assert config.services["matching"] == Config().services["matching"]
    assert config.images.create_repositories is False


def test_flags_win_over_the_file_and_a_profile_only_fills_the_gap(loaded):
    text = 'project = "filed"\nregion = "us-east-1"'
    assert (loaded(text).project, loaded(text).region) == ("filed", "us-east-1")
    config = loaded(text, project="flagged", region="us-west-2", fallback_region=lambda: "eu-north-1")
    assert (config.project, config.region) == ("flagged", "us-west-2")
    assert loaded("", fallback_region=lambda: "eu-north-1").region == "eu-north-1"
    assert loaded(text, fallback_region=lambda: pytest.fail("nobody asked")).region == "us-east-1"
    assert loaded("", fallback_region=lambda: None).region == "eu-west-1"


def test_a_config_cannot_be_changed_afterwards():
    config = load(None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.network.cidr = "10.1.0.0/16"
    with pytest.raises(TypeError):
        config.services["history"] = config.services["ui"]
    with pytest.raises(TypeError):
        config.services["history"].environment["A"] = "b"


# --------------------------------------------------------------------------------------------------- rules


def at(path: str, value: str) -> str:
    """The text that sets the setting at `path`."""
    table, _, key = path.rpartition(".")
    return f"[{table}]\n{key} = {value}" if table else f"{key} = {value}"


CPU = ["services.history.cpu", "services.adot.cpu", "benchmark.cpu"]
MEMORY = ["services.worker.memory", "services.grafana.memory", "benchmark.memory"]
ARN = "arn:aws:dsql:eu-west-1:123456789012:cluster/abc123"
ENDPOINT = "abc123.dsql.eu-west-1.on.aws"

RULES: list[tuple[str, list[str], list[str], str]] = [
    # path, values that pass, values that don't, words of the problem
    (
        "project",
        ['"a"', '"temporal-dev"', '"t1-2-x"', '"seventeen-letters"'],
        ['""', '"Temporal"', '"1a"', '"a--b"', '"a-"', '"-a"', '"a_b"', '"ä"'],
        "must be lower-case letters, digits and single hyphens",
    ),
    ("project", [], ['"eighteen-letters-x"'], "at most 17 characters, it has 18"),
    ("project", ['"xecs"'], ['"aws-temporal"', '"ecs1"', '"fargate"'], "must not begin with aws, ecs, fargate"),
    (
        "region",
        ['"eu-west-1"', '"us-gov-east-1"', '"ap-southeast-5"'],
        ['""', '"eu"', '"eu-west"', '"eu-west-1a"', '"EU-WEST-1"'],
        "must be a region like eu-west-1",
    ),
    ("environment", ['"production"', '"a b"'], ['""', '"a\\nb"', '"a*"'], "must be a tag value"),
    (
        "network.cidr",
        ['"10.0.0.0/16"', '"172.16.0.0/20"', '"192.168.16.0/20"'],
        ['""', '"10.0.0.0"', '"ten"', '"fd00::/16"', '"10.0.0.1/16"', '"10.0.0.0/33"', '"10.0.0.0/15"'],
        "must be a",
    ),
    ("network.cidr", [], ['"10.0.0.0/21"'], "it is a /21"),
    (
        "network.availability_zones",
        ["[]", '["eu-west-1a", "eu-west-1b"]'],
        ['["eu-west-1a"]'],
        "must name at least 2 zones",
    ),
    ("network.availability_zones", [], ['["eu-west-1a", "eu-west-1a"]'], "must not name a zone twice"),
    ("network.availability_zones", [], [str([f"eu-west-1{i}" for i in range(16)])], "must name at most 15 zones"),
    ("network.availability_zones", [], ['"eu-west-1a"', "[1, 2]", "true"], "must be a list of strings"),
    (
        "instances.type",
        ['"m7g.xlarge"', '"c7gn.16xlarge"', '"t4g.small"', '"r8gd.metal-24xl"', '"im4gn.large"', '"a1.metal"'],
        ['""', '"m7i.xlarge"', '"m5.large"', '"g5.xlarge"', '"g4dn.xlarge"', '"m7g"', '"m7g.huge"', '"trn1.2xlarge"'],
        "must be a Graviton (ARM64) instance type",
    ),
    ("instances.count", ["1", "20"], ["0", "21", "-1"], "must be 1 to 20"),
    ("instances.ami", ['""', '"ami-0123456789abcdef0"'], ['"ubuntu"', '"ami-xyz"'], "must be an AMI id"),
    ("temporal.history_shards", ["1", "4096", "16384"], ["0", "16385"], "must be 1 to 16384"),
    *(
        (path, ["256", "512", "1024", "2048", "4096"], ["0", "128", "1000", "8192"], "must be one of 256, 512, 1024")
        for path in CPU
    ),
    *((path, ["512", "30720"], ["511", "30721"], "must be 512 to 30720 MiB") for path in MEMORY),
    ("services.history.count", ["0", "1", "199"], ["-1", "200"], "must be 0 to 199"),
    (
        "services.ui.environment",
        ["{}", '{ LOG_LEVEL = "info" }'],
        ["{ LOG_LEVEL = 1 }", '"LOG_LEVEL=info"', '["a"]'],
        "must be a table of strings",
    ),
    *(
        (f"images.{name}", ['"123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b:1.2@sha256:' + "0" * 64 + '"'],
         ['"Repo:tag"', '"-a"', '"a b"', '"a@sha256:12"'], "must be an image reference")
        for name in ("temporal", "admin_tools", "benchmark", "grafana", "ui", "adot")
    ),
    *((f"images.{name}", ['""'], [], "") for name in ("temporal", "admin_tools", "benchmark", "grafana")),
    *((f"images.{name}", [], ['""'], "must be an image reference") for name in ("ui", "adot")),
    ("images.create_repositories", ["true", "false"], ["1", '"yes"'], "must be true or false"),
    (
        "dsql.endpoint",
        ['""'],
        ['"localhost"', '"abc.dsql.eu-west-1.on.aws.example"', '"ABC.dsql.eu-west-1.on.aws"', '"a.amazonaws.com"'],
        "must be a host like <id>.dsql.<region>.on.aws",
    ),
    (
        "dsql.arn",
        ['""'],
        ['"arn:aws:rds:eu-west-1:123456789012:cluster/abc"', '"arn:aws:dsql:eu-west-1:1:cluster/abc"', '"abc"'],
        "must be an ARN like arn:aws:dsql:",
    ),
    ("opensearch.engine", ['"OpenSearch_2.19"'], ['"Elasticsearch_7.10"', '"2.11"'], "must be like OpenSearch_2.11"),
    ("opensearch.instance_type", ['"r7g.xlarge.search"'], ['"m6g.large"', '""'], "must be like m6g.large.search"),
    ("opensearch.instance_count", ["1", "20"], ["0", "21"], "must be 1 to 20"),
    ("opensearch.volume_gib", ["10", "2048"], ["9", "2049"], "must be 10 to 2048"),
    (
        "opensearch.visibility_index",
        ['"temporal_visibility_v1"'],
        ['""', '"Visibility"', '"_hidden"', '"a/b"'],
        "must be lower-case letters",
    ),
    ("grafana.secret", ['"team/grafana_1"'], ['""', '"a b"', f'"{"x" * 513}"'], "must be a Secrets Manager name"),
    ("logs.retention_days", list(map(str, LOG_RETENTION_DAYS)), ["0", "2", "8", "3654"], "must be one of 1, 3, 5"),
    ("benchmark.max_instances", ["1", "10"], ["0", "11"], "must be 1 to 10"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "good"), [(path, value) for path, goods, _, _ in RULES for value in goods])
def test_what_a_rule_allows_is_taken(loaded, path, good):
    text = at(path, good)
    config: Any = loaded(text)
    value: Any = tomllib.loads(text)
    for key in path.split("."):
        config = config[key] if isinstance(config, dict) or hasattr(config, "keys") else getattr(config, key)
        value = value[key]
    assert config == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("path", "bad", "words"), [(p, value, w) for p, _, bads, w in RULES for value in bads])
def test_what_a_rule_forbids_is_a_problem_with_its_path(problems, path, bad, words):
    (problem,) = problems(at(path, bad))
    assert problem.startswith(f"{path}: ")
    assert words in problem
    if not bad.startswith("{"):
        assert f", got {tomllib.loads(at('x', bad))['x']!r}" in problem, "it says what it got"


@pytest.mark.parametrize(
    ("path", "wrong", "words"),
    [
        ("project", "1", "must be a string, got 1"),
        ("instances.count", '"6"', "must be a whole number, got '6'"),
        ("instances.count", "6.0", "must be a whole number, got 6.0"),
        ("instances.count", "true", "must be a whole number, got True"),
        ("network.cidr", "10", "must be a string, got 10"),
        ("network.cidr", "2024-01-01", "must be a string"),
        ("network", "true", "must be a table, got True"),
        ("services", "[]", "must be a table, got []"),
        ("services.history", "4", "must be a table, got 4"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_problem(problems, path, wrong, words):
    (problem,) = problems(at(path, wrong))
    assert problem.startswith(f"{path}: ")
    assert words in problem


@pytest.mark.parametrize("variable", sorted(PROTECTED_VARIABLES))
def test_variables_that_tie_a_service_to_its_cluster_are_protected(problems, variable):
    assert problems(at("services.history.environment", f'{{ {variable} = "x" }}')) == [
        f"services.history.environment.{variable}: is set by tecs and must not change"
    ]


def test_protected_are_those_of_the_seed_that_must_not_change():
    sql = {f"TEMPORAL_SQL_{part}" for part in ("HOST", "PORT", "USER", "DATABASE", "PLUGIN_NAME", "TLS_ENABLED")}
    assert sql | {"SERVICES", "AWS_REGION", "TEMPORAL_HISTORY_SHARDS", "AMP_ENDPOINT"} <= PROTECTED_VARIABLES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('proyect = "x"', "proyect: unknown setting, did you mean 'project'?"),
        ("[network]\ncdir = '10.0.0.0/16'", "network.cdir: unknown setting, did you mean 'cidr'?"),
        ("[zzz]", "zzz: unknown setting (known: project, region, environment, network, instances"),
        ("[services.histroy]", "services.histroy: unknown service, did you mean 'history'?"),
        ("[services.zzz]", "services.zzz: unknown service (known: history, matching, frontend"),
        ("[services.history]\ncounts = 3", "services.history.counts: unknown setting, did you mean 'count'?"),
    ],
)
def test_an_unknown_name_comes_with_a_suggestion(problems, text, expected):
    (problem,) = problems(text)
    assert problem.startswith(expected)


# ------------------------------------------------------------------------------------- between settings


def test_an_existing_cluster_needs_endpoint_and_arn(problems, loaded):
    assert problems(at("dsql.endpoint", f'"{ENDPOINT}"')) == [
        "dsql.arn: must be set too: an existing cluster needs both endpoint and arn"
    ]
    assert problems(at("dsql.arn", f'"{ARN}"')) == [
        "dsql.endpoint: must be set too: an existing cluster needs both endpoint and arn"
    ]
    other = ARN.replace("abc123", "def456")
    assert problems(f'[dsql]\nendpoint = "{ENDPOINT}"\narn = "{other}"') == [
        f"dsql.arn: names another cluster than dsql.endpoint ({ENDPOINT})"
    ]
    assert loaded(f'[dsql]\nendpoint = "{ENDPOINT}"\narn = "{ARN}"').dsql.arn == ARN
    assert loaded(f'[dsql]\nendpoint = "{ENDPOINT}"\narn = "{ARN.replace("aws:", "aws-cn:", 1)}"')


def test_zones_must_lie_in_the_region(problems, loaded):
    text = '[network]\navailability_zones = ["eu-west-1a", "us-east-1b"]'
    assert problems(text) == ["network.availability_zones[1]: 'us-east-1b' is not in region eu-west-1"]
    assert len(problems(text, region="eu-north-1")) == 2
    assert loaded('[network]\navailability_zones = ["us-west-2a", "us-west-2-lax-1a"]', region="us-west-2")


def test_names_in_iam_must_fit(problems):
    region = "xx-" + "a" * 40 + "-1"
    (problem,) = problems('project = "seventeen-letters"', region=region)
    assert problem.startswith(f"project: seventeen-letters-{region}-opensearch-setup-task would be ")
    assert problem.endswith("IAM role names take 64 at most")


def test_every_problem_is_shown_at_once(problems):
    found = problems(
        """
        project = "Temporal"
        zone = 1
        [network]
        cidr = "10.0.0.0/8"
        availability_zones = ["us-east-1a", "eu-west-1b"]
        [instances]
        count = 0
        [services.history]
        cpu = 3
        memory = "big"
        [services.histroy]
        count = 1
        [logs]
        retention_days = 2
        [dsql]
        endpoint = "abc123.dsql.eu-west-1.on.aws"
        """
    )
    assert [problem.partition(": ")[0] for problem in found] == [
        "project",
        "zone",
        "network.cidr",
        "instances.count",
        "services.history.cpu",
        "services.history.memory",
        "services.histroy",
        "logs.retention_days",
        "network.availability_zones[0]",
        "dsql.arn",
    ]


def test_a_wrong_value_makes_no_second_problem_elsewhere(problems):
    (problem,) = problems('region = "nowhere"\n[network]\navailability_zones = ["us-east-1a", "us-east-1b"]')
    assert problem.startswith("region: ")
    (problem,) = problems(f'[dsql]\nendpoint = "localhost"\narn = "{ARN}"')
    assert problem.startswith("dsql.endpoint: ")


def test_a_file_that_is_no_toml_says_where(loaded):
    with pytest.raises(ConfigError, match=r"tecs\.toml is not valid TOML: .*line 2") as caught:
        loaded('project = "a"\nregion = ,\n')
    assert caught.value.hint == "Nothing was changed."


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*: .*No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xff")
    with pytest.raises(ConfigError, match="cannot read "):
        load(tmp_path / "binary.toml")


# ------------------------------------------------------------------------------------------------ addresses


@given(st.integers(16, 20), st.integers(0, 2**32 - 1), st.integers(2, MAX_ZONES))
def test_subnets_lie_in_the_vpc_and_never_overlap(prefix, address, count):
    vpc = ipaddress.IPv4Network((address, prefix), strict=False)
    config = Config(network=dataclasses.replace(Config().network, cidr=str(vpc)))
    subnets = [ipaddress.IPv4Network(config.private_cidr(i)) for i in range(count)]
    subnets.append(ipaddress.IPv4Network(config.public_cidr))
    assert all(subnet.subnet_of(vpc) for subnet in subnets)
    assert not any(a.overlaps(b) for i, a in enumerate(subnets) for b in subnets[:i])
    assert all(16 <= subnet.prefixlen <= 28 for subnet in subnets), "what AWS allows"


def test_the_default_subnets_are_the_seeds():
    config = load(None)
    assert [config.private_cidr(0), config.private_cidr(1)] == ["10.0.0.0/20", "10.0.16.0/20"]
    assert config.public_cidr == "10.0.255.0/24"
    assert config.zone_count == 2
    assert config.iam_name("ecs-instance") == "temporal-dev-eu-west-1-ecs-instance"


# ------------------------------------------------------------------------------------------------ the example


def settings(config: Any, path: str = "") -> Iterator[str]:
    """The paths of all settings."""
    rows = (
        config.items()
        if hasattr(config, "items")
        else [(f.name, getattr(config, f.name)) for f in dataclasses.fields(config)]
    )
    for name, value in rows:
        if dataclasses.is_dataclass(value) or name == "services":
            yield from settings(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text)


def test_the_example_changes_nothing(loaded):
    assert loaded(example()) == Config()


def test_the_example_with_every_line_uncommented_changes_nothing_either(loaded):
    assert loaded(uncommented(example())) == Config()


def test_the_example_shows_every_setting_with_a_comment():
    raw = tomllib.loads(uncommented(example()))

    def paths(value: Any, path: str = "") -> Iterator[str]:
        for key, inner in value.items():
            if isinstance(inner, dict) and key != "environment":
                yield from paths(inner, f"{path}{key}.")
            else:
                yield f"{path}{key}"

    assert sorted(paths(raw)) == sorted(settings(Config()))
    lines = [line for line in example().splitlines() if re.match(r"# [a-z_]+ = ", line)]
    bare = [line for line in lines if "  # " not in line]
    assert len(bare) == 4 * (len(SERVICES) - 1), "only the first service explains what all have"


def test_the_file_in_the_repository_is_the_example():
    file = Path(__file__).parents[1] / "tecs.example.toml"
    assert file.read_text(encoding="utf-8") == example()


def test_no_count_is_allowed_whose_surge_would_be_more_than_one_task():
    highest = 199
    assert highest * surge(highest) // 100 == highest + 1
    assert (highest + 1) * surge(highest + 1) // 100 > highest + 2
