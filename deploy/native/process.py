"""Processes by pid, on Linux: whose they are, what they started, signals to all of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def runs_in(pid: int, directory: Path, name: str | None = None) -> bool:
    """Whether the process lives and works in the directory: a reused pid or a zombie does not."""
    proc = Path(f"/proc/{pid}")
    try:
        here = (proc / "cwd").readlink() == directory.resolve()
        return here and name in (None, (proc / "comm").read_text().strip())
    except OSError:
        return False


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process."""
    try:
        # The name comes second, in brackets, and may itself hold brackets and spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def family(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    parents = {other: found[1] for other in pids() if (found := stat(other))}
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stopped(pid: int) -> bool:
    found = stat(pid)
    return found is not None and found[0] in "Tt"


def gone(pid: int) -> bool:
    found = stat(pid)
    return found is None or found[0] in "ZX"


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def freeze(pid: int) -> list[int]:
    """Stop the process and all it started, and say which. Stopped first, it cannot start more."""
    members: list[int] = []
    while (found := family(pid)) != members:
        members = found
        signal_all(members, signal.SIGSTOP)
        wait_for(lambda: all(stopped(member) or gone(member) for member in found), 5)
    return members
