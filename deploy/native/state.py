"""What one set of servers keeps between runs: ports, passwords, pids and the settings file."""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import secrets
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

NAMES = ("postgres", "cassandra", "redis", "mongo", "mosquitto")

# Below the range the kernel takes outgoing ports from. There, a client that keeps dialling a dead
# server's port may in the end be connected to itself, and the server finds its port taken.
PORTS = range(20000, 32000)


class Failure(Exception):
    """One line for the person at the keyboard."""


class State:
    """The directory `.services` of one clone."""

    with_port: tuple[str, ...] = (*NAMES, "cassandra_storage")

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env_file = home / "env"

    def make(self) -> None:
        # PostgreSQL may run as another user, who has to get through to its data.
        for directory in (self.home, self.home / "data", self.home / "logs", self.home / "pids"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)

    @property
    def key(self) -> str:
        """Tells this clone from the others on the machine."""
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:10]

    @cached_property
    def ports(self) -> dict[str, int]:
        path = self.home / "ports.json"
        ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        new = [name for name in self.with_port if name not in ports]
        if new:
            ports |= dict(zip(new, free_ports(len(new)), strict=True))
            path.write_text(json.dumps(ports, indent=2) + "\n")
        return ports

    @cached_property
    def passwords(self) -> dict[str, str]:
        path = self.home / "passwords.json"
        passwords: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        wanted = ("postgres", "redis", "mongo", "mosquitto", "secret_key", "api_key_pepper")
        new = [name for name in wanted if name not in passwords]
        if new:
            passwords |= {name: secrets.token_urlsafe(36) for name in new}
            write_private(path, json.dumps(passwords, indent=2) + "\n")
        return passwords

    def pid_file(self, name: str) -> Path:
        return self.home / "pids" / name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time in one clone."""
        with (self.home / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("waiting for another command on these servers …", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def write_env(self, versions: dict[str, str], control: Path) -> None:
        """Settings of exactly the servers named in `versions`: an unset one means embedded."""
        lines = ["# Written by deploy/services.py. To use it: . .services/env"]
        for name in NAMES:
            if name in versions:
                lines += [export(*pair) for pair in self.settings(name).items()]
        # One that is down or paused at the moment has no version to tell.
        stack = ", ".join(versions[name] for name in NAMES if versions.get(name, "-") != "-")
        lines += [export("SERVICES_STACK", stack), export("SERVICES_CONTROL", str(control))]
        write_private(self.env_file, "\n".join(lines) + "\n")

    def settings(self, name: str) -> dict[str, str]:
        address, password = f"127.0.0.1:{self.ports[name]}", self.passwords.get(name, "")
        if name == "postgres":
            return {
                "DATABASE_URL": f"postgres://iotflow:{password}@{address}/iotflow",
                # Demanded as soon as the database is not embedded, and kept like its data.
                "SECRET_KEY": self.passwords["secret_key"],
                "API_KEY_PEPPER": self.passwords["api_key_pepper"],
            }
        if name == "cassandra":
            return {
                "CASSANDRA_HOSTS": "127.0.0.1",
                "CASSANDRA_PORT": str(self.ports[name]),
                "CASSANDRA_KEYSPACE": "telemetry",
            }
        if name == "redis":
            return {"REDIS_URL": f"redis://:{password}@{address}/0"}
        if name == "mosquitto":
            return {"MQTT_URL": f"mqtt://bridge:{password}@{address}"}
        return {
            "MONGODB_URI": f"mongodb://iotflow:{password}@{address}/iotflow?authSource=admin",
            "MONGODB_DATABASE": "iotflow",
        }


def export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    found: set[int] = set()
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return list(found)


def write_private(path: Path, text: str) -> None:
    """Write for the owner alone, and whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)
