"""A server that runs as a process of its own: start it, ask it, stop it, pull its plug."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

from native import process
from native.state import Failure, State


class Server:
    """One server of a set. A subclass says how it is made, started and asked."""

    name: ClassVar[str]
    address: ClassVar[str] = "127.0.0.1"
    patience: ClassVar[float] = 60
    end_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, state: State) -> None:
        self.state = state
        self.port = state.ports[self.port_name]
        self.log = state.home / "logs" / f"{self.name}.log"
        self.pid_file = state.pid_file(self.name)

    # What a subclass says

    def missing_packages(self) -> list[str]:
        """Debian packages it needs and does not find."""
        raise NotImplementedError

    def fetch(self) -> None:
        """Build or download what is shared by all clones; nothing to do when it is there."""

    def prepare(self) -> None:
        """Make data directory and configuration; keeps data that is there."""
        self.data.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def ask(self) -> str:
        """Name and version, from a real answer; OSError while there is none."""
        raise NotImplementedError

    @property
    def port_name(self) -> str:
        """Under which the state knows its port."""
        return self.name

    @property
    def data(self) -> Path:
        """Its working directory too, which is how its process is known again."""
        return self.state.home / "data" / self.name

    @property
    def user(self) -> str | None:
        """Who it runs as, where not the caller."""
        return None

    def connect(self) -> socket.socket:
        """How `ask` speaks to it."""
        return socket.create_connection((self.address, self.port), timeout=5)

    # What is the same for all

    def say(self, text: str) -> None:
        print(f"{self.name:<11} {text}", flush=True)

    @property
    def pid(self) -> int | None:
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if process.runs_in(pid, self.data) else None

    @property
    def identity(self) -> dict[str, Any]:
        """Arguments that make subprocess run as the server's user."""
        if self.user is None:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}

    def status(self) -> tuple[str, str]:
        """One word and the version."""
        pid = self.pid
        if pid is None:
            return "down", "-"
        if process.stopped(pid):
            return "paused", "-"
        try:
            return "up", self.ask()
        except OSError:
            return "mute", "-"

    def start(self) -> str:
        """Return its version once it answers; one that runs is left as it is."""
        pid, begun = self.pid, time.monotonic()
        if pid is None:
            self.prepare()
            self.spawn(self.command())
        elif process.stopped(pid):
            process.signal_all(process.family(pid), signal.SIGCONT)
        version = self.wait_until_ready()
        word = "ready" if pid is None else "runs"
        seconds = time.monotonic() - begun
        self.say(f"{word}: {version}, {self.address}:{self.port} ({seconds:.1f} s)")
        return version

    def port_is_free(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) != 0

    def spawn(self, command: list[str]) -> None:
        self.refuse_a_taken_port()
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.identity,
            )
        self.pid_file.write_text(f"{child.pid}\n")

    def refuse_a_taken_port(self) -> None:
        # A killed process of many threads lets its port go a moment after it is seen to be gone.
        if not process.wait_for(self.port_is_free, 2):
            ports = self.state.home / "ports.json"
            raise Failure(
                f"{self.name}: another process has port {self.port}; "
                f"run `down`, remove {ports} and run `up`"
            )

    def wait_until_ready(self) -> str:
        deadline = time.monotonic() + self.patience
        while self.pid is not None and time.monotonic() < deadline:
            try:
                return self.ask()
            except OSError:
                time.sleep(0.1)
        word = "does not answer" if self.pid else "ended while starting"
        raise Failure(f"{self.name} {word}; the end of {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        pid = self.pid
        if pid is not None:
            self.end(pid)
            self.say("down")
        self.pid_file.unlink(missing_ok=True)

    def end(self, pid: int) -> None:
        """End it in order; by force where that takes too long."""
        members = process.family(pid)
        process.signal_all(members, signal.SIGCONT)
        process.signal_all([pid], self.end_signal)
        if not process.wait_for(lambda: all(map(process.gone, members)), 30):
            self.say("does not end; killed")
            self.kill()

    def halt(self) -> None:
        """End it in order; it may be started again."""
        self.end(self.running_pid())

    def kill(self) -> None:
        """SIGKILL to the process and its children; done when all are gone."""
        members = process.freeze(self.running_pid())
        process.signal_all(members, signal.SIGKILL)
        if not process.wait_for(lambda: all(map(process.gone, members)), 10):
            raise Failure(f"{self.name}: processes {members} survive SIGKILL")

    def pause(self) -> None:
        process.freeze(self.running_pid())

    def resume(self) -> None:
        process.signal_all(process.family(self.running_pid()), signal.SIGCONT)
        self.wait_until_ready()

    def running_pid(self) -> int:
        pid = self.pid
        if pid is None:
            raise Failure(f"{self.name} does not run")
        return pid


def tail(path: Path, lines: int = 12) -> str:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly that many bytes."""
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionError("closed by the server")
        data += chunk
    return data
