"""Processes that a command starts beside itself: a server, a simulator."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
from django.conf import settings

TAIL_BYTES = 4000
TAIL_LINES = 12
STOP_SECONDS = 8.0
POLL_SECONDS = 0.05
# As in Makefile and Dockerfile: HTTP/1 alone, for with both a silent connection has no time limit.
LIMITS = {
    "GRANIAN_HTTP": "1",
    "GRANIAN_HTTP1_HEADER_READ_TIMEOUT": "30000",
    "GRANIAN_HTTP1_BUFFER_SIZE": "65536",
}


class Child:
    """A process in a session of its own, so that Ctrl-C reaches only who started it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  (our own commands)
                command,
                cwd=directory or settings.BASE_DIR,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end (SIGTERM); make it and its own children end after STOP_SECONDS."""
        if self.is_alive:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):  # nothing is left of its session
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def obituary(self) -> str:
        """How it ended, and the last lines of its log."""
        text = self.log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace")
        lines = "\n".join(f"  {line}" for line in text.splitlines()[-TAIL_LINES:])
        return f"The {self.name} ended (exit status {self._process.poll()}). Its log:\n{lines}"


def server(
    port: int,
    log: Path,
    environment: Mapping[str, str],
    directory: Path | None = None,
    workers: int = 1,
) -> Child:
    """This project's own server on the loopback address, or that of the code in `directory`."""
    command = [
        *(sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", str(workers), "--blocking-threads", "16", "--no-ws"),
        "iotflow.wsgi:application",
    ]
    return Child("server", command, log, {**LIMITS, **environment}, directory)


def streams(port: int, log: Path, environment: Mapping[str, str]) -> Child:
    """This project's own server of live streams on the loopback address."""
    command = [
        *(sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1"),
        *("--port", str(port), "--backpressure", "1100", "--workers-kill-timeout", "10", "--no-ws"),
        "iotflow.asgi:application",
    ]
    return Child("server of streams", command, log, {**LIMITS, **environment})


def answers(url: str, child: Child, seconds: float, path: str = "/health?detailed=true") -> bool:
    """Wait until the server at `url` is healthy; False when it ends or takes too long."""
    deadline = time.monotonic() + seconds
    while child.is_alive and time.monotonic() < deadline:
        try:
            health = httpx.get(f"{url}{path}", timeout=3, trust_env=False)
            if health.status_code == 200:
                return True
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(POLL_SECONDS)
    return False


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port of the loopback address on which nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
