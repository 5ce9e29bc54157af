"""What an operator types and reads: whole outputs, exit statuses, and that nothing changed where it says so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest

from cloud import KEYS, REGION, clear
from temporal_ecs import cli
from temporal_ecs.config import example
from temporal_ecs.holder import Holder
from temporal_ecs.sandbox.server import Server

LOCK = "/temporal-dev/tecs/lock"


class Ran(NamedTuple):
    status: int
    out: str
    err: str


class Operator:
    """Somebody in an empty folder with the environment pointing at the emulator."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self.monkeypatch, self.capsys = server, monkeypatch, capsys

    def __call__(self, *words: str) -> Ran:
        self.monkeypatch.setattr(sys, "argv", ["tecs", *words])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = self.capsys.readouterr()
        return Ran(int(left.value.code or 0), out, err)

    def aws(self, service: str) -> object:
        return boto3.client(service, region_name=REGION, endpoint_url=self.server.endpoint, **KEYS)

    @property
    def changes(self) -> int:
        return sum(self.server.count(mutating=True).values())


@pytest.fixture
def tecs(
    sandbox: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Operator]:
    clear(sandbox)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "AWS_ENDPOINT_URL": sandbox.endpoint,
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "TECS_SANDBOX", "TECS_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    yield Operator(sandbox, monkeypatch, capsys)
    clear(sandbox)


# -- the daily round -----------------------------------------------------------------------------------------


def test_logs_are_built_shown_and_removed_again(tecs: Operator):
    first = tecs("provision", "logs", "--yes")
    assert first.status == 0
    assert first.out == ""
    assert re.search(r"^account 123456789012, region eu-west-1, project temporal-dev$", first.err, re.MULTILINE)
    assert re.search(r"^11 created in [\d.]+s$", first.err, re.MULTILINE)
    changes = tecs.changes
    assert "11 unchanged in" in tecs("provision", "logs", "--yes").err
    assert tecs.changes == changes
    assert tecs("plan", "logs").out == "Nothing to do: all 11 resources are as declared.\n"
    gone = tecs("teardown", "--yes")
    assert gone.status == 0
    assert "proven by tag and by listing: nothing of this project is left" in gone.err
    assert tecs.aws("logs").describe_log_groups()["logGroups"] == []


def test_plan_of_an_empty_account_lists_what_it_would_make_by_group(tecs: Operator):
    shown = tecs("plan", "nat", "ecs-instance-role")
    assert shown == Ran(
        0,
        "+ iam: create ecs-instance-role\n"
        "+ network: create vpc, zones, igw, public-rt, nat-public, nat-eip, public-default, nat\n"
        "9 resources: 9 to create, 0 as declared.\n",
        "",
    )
    assert tecs.changes == 0


def test_plan_shows_drift_by_field_and_check_tells_by_its_status(tecs: Operator):
    tecs("provision", "temporal-ui-logs", "--yes")
    tecs.aws("logs").put_retention_policy(logGroupName="/ecs/temporal-dev/temporal-ui", retentionInDays=90)
    assert tecs("plan", "temporal-ui-logs", "--check") == Ran(
        3,
        "~ temporal-ui-logs: update\n    retention_days: 90 -> 7\n1 resources: 1 to update, 0 as declared.\n",
        "",
    )
    assert "1 updated" in tecs("provision", "temporal-ui-logs", "-y").err
    assert tecs("plan", "temporal-ui-logs", "--check").status == 0


def test_json_is_one_document_on_stdout(tecs: Operator):
    for words in (
        ("plan", "logs", "-o", "json"),
        ("-o", "json", "provision", "logs", "--yes"),
        ("-o", "json", "status"),
        ("-o", "json", "output"),
        ("-o", "json", "state", "list"),
        ("-o", "json", "teardown", "--yes"),
    ):
        assert isinstance(json.loads(tecs(*words).out), dict), words


def test_output_gives_one_value_to_a_script(tecs: Operator):
    tecs("provision", "vpc", "--yes")
    vpc = tecs.aws("ec2").describe_vpcs(Filters=[{"Name": "tag:tecs:name", "Values": ["vpc"]}])["Vpcs"][0]["VpcId"]
    assert tecs("output", "vpc_id") == Ran(0, f"{vpc}\n", "")
    missing = tecs("output", "opensearch_endpoint")
    assert missing == Ran(1, "", "Error: opensearch_endpoint is not there yet\n  Run `tecs provision` first.\n")
    assert "did you mean 'vpc_id'?" in tecs("output", "vpcid").err


def test_state_commands_list_show_forget_and_rebuild(tecs: Operator):
    tecs("provision", "vpc", "--yes")
    assert re.fullmatch(r"vpc  Vpc  ready  vpc-[0-9a-f]+\n", tecs("state", "list").out)
    shown = json.loads(tecs("state", "show", "vpc").out)
    assert shown["kind"] == "Vpc"
    assert shown["users"] == []
    assert "did you mean 'vpc'?" in tecs("state", "show", "vcp").err
    assert tecs("state", "forget", "vpc", "--yes").status == 0
    assert tecs("state", "list").err == "nothing is recorded\n"
    assert "1 resources found" in tecs("state", "rebuild", "--yes").err
    assert json.loads(tecs("state", "show", "vpc").out) == shown


def test_a_damaged_state_file_is_refused_then_rebuilt_and_kept(tecs: Operator):
    tecs("provision", "vpc", "--yes")
    state = next(Path(".tecs").glob("*.state.json"))
    whole = json.loads(state.read_text())["resources"]
    state.write_text(state.read_text()[:100])
    changes = tecs.changes
    refused = tecs("provision", "vpc", "--yes")
    assert refused.status == 1
    assert "is damaged" in refused.err
    assert "tecs state rebuild" in refused.err
    rebuilt = tecs("state", "rebuild", "--yes")
    assert rebuilt.status == 0, rebuilt.err
    assert json.loads(state.read_text())["resources"] == whole
    assert tecs.changes == changes
    assert list(Path(".tecs").glob("*.damaged"))


def test_data_outlives_a_plain_teardown_and_needs_the_projects_name(tecs: Operator):
    tecs("provision", "secrets", "logs", "--yes")
    plain = tecs("teardown", "--yes")
    assert plain.status == 0
    assert "· grafana-secret stays: holds Grafana's administrator password" in plain.err
    assert tecs("teardown", "--yes", "--with-data").status == 2
    wrong = tecs("teardown", "--yes", "--with-data", "--confirm", "temporal-prod")
    assert wrong.err.endswith("Error: 'temporal-prod' is not the project's name\n  Nothing was changed.\n")
    assert tecs.aws("secretsmanager").list_secrets()["SecretList"]
    assert tecs("teardown", "--yes", "--with-data", "--confirm", "temporal-dev").status == 0
    assert not tecs.aws("secretsmanager").list_secrets()["SecretList"]


def test_init_writes_the_example_and_never_over_a_file(tecs: Operator):
    assert tecs("init").status == 0
    assert Path("tecs.toml").read_text() == example()
    assert tecs("init") == Ran(2, "", "Error: tecs.toml exists\n  Nothing was changed. Add --force to overwrite it.\n")
    assert tecs("plan", "logs").status == 0


def test_every_request_is_logged_as_one_json_line(tecs: Operator):
    tecs("--api-log", "calls.jsonl", "plan", "logs")
    lines = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
    assert {"sts", "logs"} == {line["service"] for line in lines}
    assert all(line.keys() >= {"time", "service", "operation", "status", "retries", "ms"} for line in lines)


# -- bad input: one clear message, the promised status, nothing changed ---------------------------------------


def write(text: str) -> Callable[[], None]:
    return lambda: Path("tecs.toml").write_text(text) and None


BAD_INPUT = {
    "an unknown resource": (
        None,
        ["provision", "vcp", "-y"],
        2,
        "unknown resource or group 'vcp', did you mean 'vpc'?",
    ),
    "an unknown command": (None, ["provison"], 2, "unknown command 'provison', did you mean 'provision'?"),
    "an unknown option": (None, ["plan", "--chekc"], 2, "No such option"),
    "a bad range": ('network.cidr = "10.0.0.0/33"', ["plan"], 2, "network.cidr: must be an IPv4 range"),
    "a range too small": ('network.cidr = "10.0.0.0/24"', ["plan"], 2, "network.cidr: must be a /16"),
    "one zone only": ('network.availability_zones = ["eu-west-1a"]', ["plan"], 2, "must name at least 2 zones"),
    "another region's zone": (
        'network.availability_zones = ["us-east-1a", "eu-west-1b"]',
        ["plan"],
        2,
        "network.availability_zones[0]: 'us-east-1a' is not in region eu-west-1",
    ),
    "an over-long project": (None, ["--project", "temporal-production", "plan"], 2, "at most 17 characters, it has 19"),
    "a task size that AWS refuses": ("services.history.cpu = 300", ["plan"], 2, "services.history.cpu: must be one of"),
    "not TOML": ("network = [", ["plan"], 2, "is not valid TOML"),
    "a missing file": (None, ["-c", "other.toml", "plan"], 2, "there is no other.toml"),
    "an unknown profile": (None, ["--profile", "nobody", "plan"], 1, "nobody"),
    "no answer possible": (None, ["provision", "vpc"], 2, "needs a confirmation and there is no terminal"),
    "no sandbox": (None, ["--sandbox", "provision", "-y"], 1, "no sandbox is running here"),
    "an unwritable API log": (None, ["--api-log", "no/such/folder", "plan"], 1, "cannot write the API log"),
}


@pytest.mark.parametrize(("toml", "words", "status", "said"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_clear_message(tecs: Operator, toml: str | None, words: list[str], status: int, said: str):
    if toml:
        write(toml)()
    ran = tecs(*words)
    assert said in ran.err
    assert ran.status == status
    assert "Traceback" not in ran.err
    assert tecs.changes == 0


def test_all_problems_of_a_file_show_at_once(tecs: Operator):
    write('projct = "x"\nnetwork.cidr = "nonsense"\nservices.historie.cpu = 256\n')()
    ran = tecs("plan")
    assert ran.status == 2
    assert "tecs.toml has 3 problems:" in ran.err
    assert "projct: unknown setting, did you mean 'project'?" in ran.err
    assert "services.historie: unknown service, did you mean 'history'?" in ran.err


@pytest.mark.parametrize(
    ("key", "said"),
    [("EXPIRED", "the AWS credentials have expired"), ("INVALID", "AWS does not accept the credentials")],
)
def test_credentials_that_do_not_work_say_so(tecs: Operator, key: str, said: str):
    tecs.monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    ran = tecs("provision", "-y")
    assert ran.status == 1
    assert said in ran.err
    assert tecs.changes == 0


def test_no_credentials_say_so(tecs: Operator):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        tecs.monkeypatch.delenv(name)
    ran = tecs("provision", "-y")
    assert ran.status == 1
    assert ran.err.startswith("Error: no AWS credentials were found\n")


def test_another_region_is_refused_by_the_state_file(tecs: Operator):
    tecs("--state", "mine.json", "provision", "vpc", "-y")
    changes = tecs.changes
    ran = tecs("--state", "mine.json", "--region", "eu-central-1", "provision", "vpc", "-y")
    assert ran.status == 1
    assert "mine.json is for region eu-west-1, not eu-central-1" in ran.err
    assert tecs.changes == changes


def test_an_endpoint_that_does_not_answer_says_where_to_look(tecs: Operator):
    tecs.monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    tecs.monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    ran = tecs("plan")
    assert ran.status == 1
    assert "Check the network, the region's name, and AWS_ENDPOINT_URL" in ran.err


def test_an_unwritable_state_says_so_before_anything_changes(tecs: Operator):
    Path("file").write_text("in the way")
    ran = tecs("--state", "file/state.json", "provision", "vpc", "-y")
    assert ran.status == 1
    assert "state file file/state.json" in ran.err
    assert tecs.changes == 0


def test_a_second_operator_is_named_and_refused(tecs: Operator):
    other = Holder("provision", "ana", "ops1.example", 4242, "", "2026-01-01 10:31:07")
    tecs.aws("ssm").put_parameter(Name=LOCK, Value=other.encode(), Type="String")
    changes = tecs.changes
    ran = tecs("provision", "vpc", "-y")
    assert ran.status == 5
    assert "another operator is changing temporal-dev: provision by ana@ops1.example, process 4242" in ran.err
    assert not tecs.aws("ec2").describe_vpcs(Filters=[{"Name": "tag-key", "Values": ["tecs:project"]}])["Vpcs"]
    assert tecs.changes == changes + 1  # the attempt to take the lock
    shown = tecs("state", "unlock", "--yes")
    assert "held: provision by ana@ops1.example" in shown.err
    assert tecs("provision", "vpc", "-y").status == 0
    assert tecs("state", "unlock", "--yes").err.endswith(f"nobody holds {LOCK}\n")


def test_a_lock_that_this_tecs_cannot_read_can_be_removed(tecs: Operator):
    tecs.aws("ssm").put_parameter(Name=LOCK, Value='{"from": "another version"}', Type="String")
    refused = tecs("provision", "vpc", "-y")
    assert refused.status == 5
    assert refused.err.count("another operator is changing temporal-dev") == 1  # not once for each resource
    assert "left no name that this tecs can read" in tecs("state", "unlock", "-y").err
    assert tecs("provision", "vpc", "-y").status == 0


def test_naming_only_what_holds_data_is_refused_rather_than_removing_the_rest(tecs: Operator):
    tecs("provision", "secrets", "-y")
    refused = tecs("teardown", "grafana-secret", "-y")
    assert refused.status == 2
    assert "grafana-secret stays without --with-data: holds Grafana's administrator password" in refused.err
    gone = tecs("teardown", "grafana-secret", "--with-data", "--confirm", "temporal-dev", "-o", "json")
    assert json.loads(gone.out)["outcomes"] == {"grafana-secret": "gone"}


def test_a_group_that_holds_data_is_refused_like_the_data(tecs: Operator):
    tecs("provision", "secrets", "-y")
    changes = tecs.changes
    refused = tecs("teardown", "secrets", "-y")
    assert refused.status == 2
    assert "grafana-secret stays without --with-data" in refused.err
    assert "`tecs teardown secrets --with-data` removes it" in refused.err
    assert tecs.changes == changes


def test_what_lost_our_tags_is_left_alone_and_nothing_is_called_proven(tecs: Operator):
    tecs("provision", "temporal-ui-logs", "-y")
    group = "arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/temporal-dev/temporal-ui"
    tecs.aws("logs").untag_resource(resourceArn=group, tagKeys=["tecs:project"])
    ran = tecs("teardown", "-y")
    assert ran.status == 1
    assert "carries no tags of ours any more; it was left alone" in ran.err
    assert "proven" not in ran.err
    assert tecs.aws("logs").describe_log_groups()["logGroups"]
    assert tecs("state", "list").out


def test_status_of_a_stack_whose_cluster_was_removed_by_hand(tecs: Operator):
    tecs("provision", "ecs-exec-logs", "namespace", "ecs-service-role", "-y")
    assert tecs("provision", "cluster", "-y").status == 0
    ecs = tecs.aws("ecs")
    ecs.put_cluster_capacity_providers(
        cluster="temporal-dev-cluster", capacityProviders=[], defaultCapacityProviderStrategy=[]
    )
    ecs.delete_cluster(cluster="temporal-dev-cluster")
    shown = tecs("status")
    assert shown.status == 0
    assert shown.out.count("MISSING") == 7


def test_a_dead_operators_lock_on_this_host_is_taken_over_with_a_note(tecs: Operator):
    done = subprocess.run(
        [sys.executable, "-c", "from temporal_ecs.holder import Holder; print(Holder.this('provision').encode())"],
        capture_output=True,
        text=True,
        check=True,
    )
    tecs.aws("ssm").put_parameter(Name=LOCK, Value=done.stdout, Type="String")
    ran = tecs("provision", "vpc", "-y")
    assert ran.status == 0
    assert "took over the lock of a dead process: provision by" in ran.err
    assert not tecs.aws("ssm").describe_parameters()["Parameters"]


def test_a_run_that_changes_nothing_takes_no_lock(tecs: Operator):
    tecs("provision", "vpc", "-y")
    other = Holder("provision", "ana", "ops1.example", 4242, "", "2026-01-01 10:31:07")
    tecs.aws("ssm").put_parameter(Name=LOCK, Value=other.encode(), Type="String")
    assert tecs("provision", "vpc", "-y").status == 0
    assert tecs("plan", "vpc").status == 0


def test_failures_name_causes_and_the_way_on(tecs: Operator):
    tecs.aws("logs").create_log_group(logGroupName="/ecs/temporal-dev/grafana")
    ran = tecs("provision", "grafana-task", "--yes")
    assert ran.status == 1
    assert "✗ grafana-logs is blocked: /ecs/temporal-dev/grafana exists and is not ours" in ran.err
    assert "tecs provision --adopt grafana-logs" in ran.err
    assert ran.err.count("✗") == 1
    assert "Run the command again to continue." in ran.err
    assert tecs("provision", "grafana-logs", "--adopt", "grafana-logs", "-y").status == 0


def test_the_sandbox_is_started_used_and_stopped(tecs: Operator):
    tecs.monkeypatch.delenv("AWS_ENDPOINT_URL")
    tecs.monkeypatch.setenv("AWS_PROFILE", "of-somebody")
    assert tecs("sandbox", "status").status == 1
    started = json.loads(tecs("-o", "json", "sandbox", "start", "--speed", "100000", "--hours", "0.1").out)
    try:
        assert tecs("sandbox", "status").out.startswith(f"running at {started['endpoint']}, process {started['pid']}")
        assert f"export AWS_ENDPOINT_URL={started['endpoint']}\n" in tecs("sandbox", "env").out
        assert json.loads(tecs("-o", "json", "sandbox", "env").out)["TECS_SANDBOX"] == "1"
        assert "1 created" in tecs("--sandbox", "provision", "vpc", "--yes").err
        assert "in the sandbox" in tecs("--sandbox", "provision", "vpc", "--yes").err
        assert list(Path(".tecs/sandbox").glob("*.state.json"))
    finally:
        assert tecs("sandbox", "stop").err == "stopped\n"
    assert tecs("sandbox", "stop").err == "it was not running\n"
    assert not list(Path(".tecs/sandbox").glob("*.state.json"))
    assert tecs.changes == 0  # nothing of all this reached the other endpoint


def test_completion_knows_resources_and_groups(tecs: Operator):
    tecs.monkeypatch.setenv("_TECS_COMPLETE", "bash_complete")
    tecs.monkeypatch.setenv("COMP_WORDS", "tecs provision private-")
    tecs.monkeypatch.setenv("COMP_CWORD", "2")
    assert "plain,private-0\n" in tecs().out


def test_debug_shows_the_traceback(tecs: Operator):
    tecs.monkeypatch.setattr(sys, "argv", ["tecs", "--debug", "-c", "other.toml", "plan"])
    with pytest.raises(Exception, match=r"there is no other\.toml"):
        cli.main()
