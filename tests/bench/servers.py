"""Servers as in production: granian, its workers and threads as the image and compose say."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.failure import Failure
from tests.bench.ground import ROOT, VAR

START_SECONDS = 60
TICKS = os.sysconf("SC_CLK_TCK")


def production() -> tuple[int, int]:
    """How many workers compose.yml starts, and with how many threads each, by the Dockerfile."""
    workers = re.search(r"WEB_WORKERS:-(\d+)", (ROOT / "docker-compose.yml").read_text())
    threads = re.search(r"GRANIAN_BLOCKING_THREADS=(\d+)", (ROOT / "Dockerfile").read_text())
    assert workers
    assert threads
    return int(workers[1]), int(threads[1])


@dataclass(frozen=True)
class Server:
    """One that runs; its figures are those of all its processes together."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        return sum(map(_cpu_seconds, family(self.pid)))

    def peak_bytes(self) -> int:
        """The largest resident memory that any one of its processes ever had."""
        return max(map(_peak_bytes, family(self.pid)))


@contextmanager
def running(
    name: str, variables: Mapping[str, str], workers: int, threads: int
) -> Iterator[Server]:
    from iotflow.lib.child import Child, answers, free_port

    port = free_port()
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", str(workers), "--blocking-threads", str(threads)),
        *("--no-ws", "iotflow.wsgi:application"),
    ]
    child = Child("server", command, VAR / f"{name}.log", variables)
    try:
        url = f"http://127.0.0.1:{port}"
        if not answers(url, child, START_SECONDS):
            raise Failure(child.obituary())
        yield Server(url, child._process.pid)
    finally:
        child.stop()


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_bytes(pid: int) -> int:
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return 1024 * int(peak[1]) if peak else 0


def busy_seconds() -> float:
    """What all cores together have worked since the machine began, whoever they worked for."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS


def cores() -> int:
    return len(os.sched_getaffinity(0))
