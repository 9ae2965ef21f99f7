"""The same servers in Docker, from the project's compose file with ports on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from native import process
from native.state import Failure, State

PROJECT = Path(__file__).resolve().parent.parent
FILES = ("docker-compose.yml", "deploy/compose.services.yml")

# What prints a version, and what stands before it.
VERSIONS = {
    "postgres": ("PostgreSQL", ["postgres", "--version"]),
    "cassandra": ("Apache Cassandra", ["cassandra", "-v"]),
    "redis": ("Redis", ["redis-server", "--version"]),
    "mongo": ("MongoDB", ["mongod", "--version"]),
}


@cache
def compose_command() -> tuple[str, ...]:
    """The plugin, or else the older program of its own; empty where there is neither."""
    if not shutil.which("docker"):
        return ()
    if succeeds("docker", "compose", "version"):
        return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else ()


def docker_answers() -> bool:
    return bool(compose_command()) and succeeds("docker", "info")


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=15, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class Container:
    """One server of the compose file."""

    pid = None

    def __init__(self, name: str, state: State) -> None:
        self.name = name
        self.state = state
        self.port = state.ports[name]

    def compose(self, *arguments: str) -> str:
        # A project of its own: its volumes are not those of the application's compose project.
        names = ["-p", f"iotflow-services-{self.state.key}"]
        for file in FILES:
            names += ["-f", str(PROJECT / file)]
        command = [*compose_command(), *names, *arguments]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failure(f"{self.name}: {' '.join(command)} failed:\n{done.stderr.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The compose file wants all its variables, also those of services not started here."""
        ports = {f"{name.upper()}_PORT": str(port) for name, port in self.state.ports.items()}
        passwords = {f"{key.upper()}_PASSWORD": word for key, word in self.state.passwords.items()}
        unused = {"SECRET_KEY": "unused", "API_KEY_PEPPER": "unused"}
        return {**os.environ, **ports, **passwords, **unused}

    def fetch(self) -> None:
        if not self.container():
            print(f"{self.name:<10} pulling its image …", flush=True)
            self.compose("pull", self.name)

    def start(self) -> str:
        if self.word() == "paused":
            self.compose("unpause", self.name)
        self.compose("up", "-d", "--no-deps", self.name)
        self.state.pid_file(self.name).write_text("docker\n")
        if not process.wait_for(lambda: self.word() == "up", 180):
            raise Failure(f"{self.name} does not answer; see docker logs {self.container()}")
        version = self.version()
        print(f"{self.name:<10} ready: {version}, 127.0.0.1:{self.port}", flush=True)
        return version

    def stop(self) -> None:
        if self.word() == "paused":
            self.compose("unpause", self.name)
        self.compose("rm", "-s", "-f", self.name)
        self.state.pid_file(self.name).unlink(missing_ok=True)

    def halt(self) -> None:
        self.compose("stop", self.name)

    def kill(self) -> None:
        self.compose("kill", self.name)

    def pause(self) -> None:
        self.compose("pause", self.name)

    def resume(self) -> None:
        self.compose("unpause", self.name)

    def status(self) -> tuple[str, str]:
        word = self.word()
        return word, self.version() if word == "up" else "-"

    def container(self) -> str:
        return self.compose("ps", "-q", self.name).strip()

    def word(self) -> str:
        container = self.container()
        if not container:
            return "down"
        template = "{{.State.Status}} {{.State.Health.Status}}"
        done = subprocess.run(
            ["docker", "inspect", "-f", template, container],
            capture_output=True,
            text=True,
            check=False,
        )
        state, _, health = done.stdout.strip().partition(" ")
        if state == "paused":
            return "paused"
        if state != "running":
            return "down"
        return "up" if health == "healthy" else "mute"

    def version(self) -> str:
        title, command = VERSIONS[self.name]
        found = re.search(r"\d+\.\d+[\w.-]*", self.compose("exec", "-T", self.name, *command))
        return f"{title} {found[0]}" if found else title
