"""The sandbox as a process of its own: started, found again and stopped by a file that it leaves behind.

`<directory>/sandbox.json` says which process answers where. A process id alone is never trusted: the process is ours
if the endpoint in the file answers and gives that very id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporal_ecs.errors import TecsError

NOT_MODELLED = (
    "ECS: one container to a task runs; circuit breakers, CodeDeploy, daemon services and placement constraints don't",
    "managed scaling: hosts come for tasks without a place, by network interfaces; none leaves by itself",
    "Temporal: what a server does in its database and among its peers; no workflow runs",
    "time: AWS's delays are typical figures, divided by the speed factor; none varies",
    "eventual consistency: what was made is found at once",
    "throttling, quotas, prices and permissions: every call is allowed",
    "images: no registry content is pulled; an image is a name",
    "the network: addresses are given out, no packet flows, rules and routes are only checked for form",
    "OpenSearch: the domain's states, not its HTTP API; one change at a time, without stages",
    "Amazon Managed Prometheus: workspaces, without samples and queries",
    "CloudWatch: no service publishes metrics, no alarm is evaluated",
    "CloudWatch Logs: filter patterns and Insights queries match words only",
    "Cloud Map: HTTP namespaces; no instances and no DNS",
    "EC2: spot, dedicated hosts, IPv6 subnets; an AMI is accepted whatever its architecture",
    "IAM: policies are kept, and checked for form; none is evaluated",
    "DSQL: PostgreSQL 16 on one machine; no distributed store, catalogue cache, price or query plan of DSQL's own",
    "DSQL: wording of refusals, size accounting and index build times are approximate; IAM policies aren't evaluated",
    "DSQL: PrivateLink, multi-Region clusters, backups and change streams",
    "anything else that AWS has and the sandbox doesn't: HTTP 501, NotImplemented",
)
"""Where the sandbox isn't AWS, for `tecs sandbox status`."""

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy is set
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that was started."""

    pid: int
    endpoint: str
    started: str
    lifetime: float
    speed: float
    region: str
    dsql_hostaddr: str = ""
    dsql_port: int = 0
    dsql_ca: str = ""

    def answers(self) -> bool:
        """Whether this very process answers at the endpoint."""
        try:
            with _direct.open(f"{self.endpoint}/_sandbox", timeout=5) as response:
                return bool(json.load(response)["pid"] == self.pid)
        except (OSError, ValueError, KeyError):
            return False


def start(
    directory: Path, *, port: int = 0, speed: float = 100, lifetime: float = 8 * 3600, region: str = "eu-west-1"
) -> Sandbox:
    """The running sandbox of this directory; started if there is none. Returns once it answers."""
    if running := find(directory):
        return running
    directory.mkdir(parents=True, exist_ok=True)
    ready, log = directory / "ready.json", directory / "sandbox.log"
    ready.unlink(missing_ok=True)
    # Keys, profiles and endpoints of the operator mean nothing to the sandbox, and some would upset it.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "temporal_ecs.sandbox.server", "--port", str(port), "--ready", str(ready),
                "--speed", str(speed), "--lifetime", str(lifetime), "--region", region,
            ],
            env=clean, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    _children.append(process)
    facts = _await(process, ready, log)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    sandbox = Sandbox(**facts, started=started, lifetime=lifetime, speed=speed, region=region)
    partial = _file(directory).with_suffix(".partial")
    partial.write_text(json.dumps(asdict(sandbox), indent=2) + "\n")
    partial.replace(_file(directory))
    return sandbox


def find(directory: Path) -> Sandbox | None:
    """The sandbox of this directory, if it answers."""
    try:
        sandbox = Sandbox(**json.loads(_file(directory).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return sandbox if sandbox.answers() else None


def stop(directory: Path) -> bool:
    """Stop the sandbox of this directory, and wait until it is gone. False: there was none."""
    sandbox = find(directory)
    if sandbox:
        os.kill(sandbox.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while sandbox.answers():
            if time.monotonic() > deadline:
                raise TecsError(f"the sandbox (process {sandbox.pid}) doesn't stop", f"kill -9 {sandbox.pid}")
            time.sleep(0.05)
        for child in [child for child in _children if child.pid == sandbox.pid]:
            child.wait()
            _children.remove(child)
    _file(directory).unlink(missing_ok=True)
    return sandbox is not None


def break_dsql(sandbox: Sandbox, **faults: float) -> None:
    """Set faults of the DSQL stand-in: the attributes of `sandbox.dsql.Faults`, and `waking` in seconds."""
    request = urllib.request.Request(f"{sandbox.endpoint}/_sandbox/dsql", json.dumps(faults).encode())
    try:
        _direct.open(request, timeout=5).close()
    except urllib.error.HTTPError as refused:
        raise TecsError(refused.read().decode(), "") from None


def environment(sandbox: Sandbox) -> dict[str, str]:
    """What an operator exports, for tecs, the AWS CLI, any SDK and psql to talk to the sandbox and to nothing else."""
    return {
        "AWS_ENDPOINT_URL": sandbox.endpoint,
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_REGION": sandbox.region,
        "AWS_DEFAULT_REGION": sandbox.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",  # else some calls go to data-127.0.0.1
        "PGHOSTADDR": sandbox.dsql_hostaddr,
        "PGPORT": str(sandbox.dsql_port),
        "PGSSLROOTCERT": sandbox.dsql_ca,
        "PGSSLMODE": "verify-full",
    }


def _file(directory: Path) -> Path:
    return directory / "sandbox.json"


def _await(process: subprocess.Popen[bytes], ready: Path, log: Path, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready.exists():
            facts: dict[str, Any] = json.loads(ready.read_text())
            return facts | {"pid": process.pid}
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.terminate()
    last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
    raise TecsError(f"the sandbox didn't start: {last[0]}", f"see {log}; is tecs installed with its extra 'sandbox'?")
