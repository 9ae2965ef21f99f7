"""Running wrk, and reading what it says."""

import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench.failure import Failure

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT = "10s"


@dataclass(frozen=True)
class Target:
    """Whom a load speaks to, in turn with others, and with which header."""

    path: str
    device_id: int = 0
    header: str = ""
    value: str = ""

    def line(self) -> str:
        return f"{self.device_id}\t{self.header}\t{self.value}\t{self.path}"


@dataclass(frozen=True)
class Figures:
    """What came of one run. Times of answers in ms, of processors in µs a request."""

    requests: int
    seconds: float
    per_second: float
    p50: float
    p95: float
    p99: float
    errors: int
    statuses: dict[str, int]
    server_us: float = 0.0
    load_us: float = 0.0
    busy: float = 0.0  # the share of the machine's cores that was at work, whoever for

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def provide() -> str:
    """The version of wrk; installed with apt where it is missing and we may."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "wrk"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    if shutil.which("wrk") is None:
        raise Failure("The load generator is missing: apt-get install wrk")
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    version = re.match(r"wrk (?:debian/)?(\S+)", said)
    return f"wrk {version[1]}" if version else "wrk"


def write_targets(path: Path, targets: Sequence[Target]) -> None:
    path.write_text("".join(f"{target.line()}\n" for target in targets))
    path.chmod(0o600)  # it holds keys


def run(
    url: str,
    kind: str,
    targets: Path,
    *,
    seconds: float,
    connections: int,
    slot: int = 0,
    taken: Path | None = None,
    pace_ms: int = 0,
) -> Figures:
    """One load of so many seconds. One thread of wrk outruns any number of cores of Python."""
    command = [
        *("wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", TIMEOUT),
        *("-s", str(SCRIPT), url, "--", kind, str(targets), str(slot), str(taken or "-")),
        str(pace_ms),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise Failure(f"wrk failed: {(done.stderr or done.stdout)[-500:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return parse(done.stdout, spent)


def parse(output: str, spent: float = 0.0) -> Figures:
    """The figures in wrk's output; `spent` is the processor time in seconds that wrk took."""
    line = re.search(r"^BENCH (\{.*\})$", output, re.MULTILINE)
    if line is None:
        raise Failure(f"wrk said nothing that can be read: {output[-500:]}")
    said = json.loads(line[1])
    refused = sum(count for status, count in said["statuses"].items() if int(status) >= 300)
    lost = said["connect"] + said["read"] + said["write"] + said["timeout"]
    seconds = said["us"] / 1e6
    return Figures(
        requests=said["requests"],
        seconds=seconds,
        per_second=(said["requests"] - refused) / seconds,
        p50=said["p50"] / 1000,
        p95=said["p95"] / 1000,
        p99=said["p99"] / 1000,
        errors=refused + lost,
        statuses=said["statuses"],
        load_us=1e6 * spent / max(said["requests"], 1),
    )


def of_times(took: Sequence[float]) -> Figures:
    """The figures of requests made one after another, from the seconds that each of them took."""
    ordered = sorted(took)

    def percentile(share: float) -> float:
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Figures(
        requests=len(took),
        seconds=sum(took),
        per_second=len(took) / sum(took),
        p50=percentile(0.5),
        p95=percentile(0.95),
        p99=percentile(0.99),
        errors=0,
        statuses={"200": len(took)},
    )
