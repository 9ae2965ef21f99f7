"""The real servers, to pull the plug on: by the script that started them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def control(verb: str, name: str) -> None:
    """`kill`, `start`, `pause` or `resume` a server; returns when that is done."""
    subprocess.run(
        [sys.executable, os.environ["SERVICES_CONTROL"], verb, name],
        check=True,
        capture_output=True,
        timeout=330,
    )


@contextmanager
def killed(name: str) -> Iterator[None]:
    """The server is dead (SIGKILL) inside, and back with its data after."""
    control("kill", name)
    try:
        yield
    finally:
        control("start", name)


@contextmanager
def hung(name: str) -> Iterator[None]:
    """The server takes connections and answers nothing (SIGSTOP) inside."""
    control("pause", name)
    try:
        yield
    finally:
        control("resume", name)


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.1)
