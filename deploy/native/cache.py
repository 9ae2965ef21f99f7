"""What is built or downloaded once for all clones, and packages of the system."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from native.state import Failure

Say = Callable[[str], None]


def directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iotflow"


class Job:
    """Long commands, with their output in a file and a sign of life every 20 seconds."""

    def __init__(self, log: Path, lock: BinaryIO, say: Say) -> None:
        self.log, self.lock, self.say = log, lock, say

    def run(
        self, command: list[str], environment: Mapping[str, str] | None = None, attempts: int = 1
    ) -> None:
        code = self.attempt(command, environment or {})
        if code and attempts > 1:
            self.say("failed; once more")
            return self.run(command, environment, attempts - 1)
        if code:
            raise Failure(f"{command[0]} ended with {code}, see {self.log}")

    def attempt(self, command: list[str], environment: Mapping[str, str]) -> int:
        begun = time.monotonic()
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                # The child holds the lock too: should this process be killed, nobody else builds
                # in the same place while the child still does.
                pass_fds=[self.lock.fileno()],
            )
        while True:
            try:
                return child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                seconds = time.monotonic() - begun
                self.say(f"… {seconds:.0f} s: {last_line(self.log)}")


def provide(
    target: Path, product: str, what: str, say: Say, build: Callable[[Path, Job], None]
) -> None:
    """Build beside the target and rename, so that what is there is whole; one builder at a time."""
    if (target / product).exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that makes the same …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / product).exists():
            return
        say(f"getting {what}")
        part, log = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.log")
        shutil.rmtree(part, ignore_errors=True)
        log.unlink(missing_ok=True)
        build(part, Job(log, lock, say))
        if not (part / product).exists():
            raise Failure(f"no {product} was made, see {log}")
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)


def install(packages: list[str], log: Path) -> None:
    """Debian packages: as root at once, for others by naming the command."""
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"missing programs; run: sudo {shlex.join(command)}")
    print(f"installing {' '.join(packages)} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for _ in range(2):
        with log.open("ab") as output:
            for step in (["apt-get", "update"], command):
                done = subprocess.run(
                    step, stdout=output, stderr=output, env=environment, check=False
                )
        if done.returncode == 0:
            return
    raise Failure(f"apt-get could not install them; run: {shlex.join(command)}\n{last_line(log)}")


def last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2_000))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")
