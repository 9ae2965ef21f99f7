"""PostgreSQL in a data directory of its own; a cluster of the system is left alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from native import process
from native.server import Server
from native.state import Failure


class Postgres(Server):
    name = "postgres"
    # A fast shutdown: sessions are ended, not waited for.
    end_signal = signal.SIGINT

    @property
    def user(self) -> str | None:
        # It refuses to run as root.
        return "postgres" if os.geteuid() == 0 else None

    def missing_packages(self) -> list[str]:
        return [] if self.programs else ["postgresql"]

    @property
    def programs(self) -> Path | None:
        """The server of the data, or else the newest installed by packages.

        A lone pg_ctl on the PATH is no server.
        """
        version = self.data / "PG_VERSION"
        made_by = version.read_text().strip() if version.exists() else "*"
        places = [p.parent for p in Path("/usr/lib/postgresql").glob(f"{made_by}/bin/initdb")]
        return max(places, key=lambda place: int(place.parent.name), default=None)

    def program(self, name: str) -> str:
        if self.programs is None:
            raise Failure("PostgreSQL is not installed")
        return str(self.programs / name)

    def prepare(self) -> None:
        if not self.data.exists():
            self.choose_place()
            self.make_cluster()
        # After a crash the pid in postmaster.pid may by now be a zombie's or another program's, and
        # the server would refuse to start; so look who works here, then remove it.
        if not process.wait_for(lambda: not self.at_work(), 10):
            raise Failure(f"{self.name}: {self.at_work()} still work in {self.data}")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def at_work(self) -> list[int]:
        pids = process.pids()
        return [pid for pid in pids if process.runs_in(pid, self.data, "postgres")]

    def choose_place(self) -> None:
        """Where user postgres cannot get to the clone, its data goes elsewhere, behind a link."""
        if self.user is None or self.allowed("test", "-x", str(self.state.home / "data")):
            return
        # Made below, which fails where somebody else was faster.
        place = Path(f"/var/tmp/iotflow-{self.state.key}")  # noqa: S108  # nosec B108
        if place.exists():
            # Left from a set whose directory, with the passwords, was removed.
            shutil.rmtree(place)
        place.mkdir(mode=0o755)
        self.say(f"user {self.user} cannot read {self.state.home}: the data is in {place}")
        self.data.unlink(missing_ok=True)
        self.data.symlink_to(place / "postgres")

    def allowed(self, *command: str) -> bool:
        return subprocess.run(command, check=False, **self.identity).returncode == 0

    def make_cluster(self) -> None:
        """Appears only when finished, with role and database, so that a half one is never used."""
        final = self.data.parent.resolve() / "postgres"
        if self.data.is_symlink():
            final = self.data.readlink()
        part = final.with_name("postgres.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        if self.user:
            shutil.chown(part, self.user, self.identity["group"])
        self.run(
            [self.program("initdb"), "-D", str(part), "-U", "postgres", "-E", "UTF8"]
            + ["--locale=C.UTF-8", "--auth-local=peer", "--auth-host=scram-sha-256"],
            part,
        )
        # In single-user mode: the superuser never gets a password and thus no way in by network.
        password = self.state.passwords["postgres"]
        self.run(
            [self.program("postgres"), "--single", "-D", str(part), "postgres"],
            part,
            f"CREATE ROLE iotflow LOGIN CREATEDB PASSWORD '{password}'\n"
            "CREATE DATABASE iotflow OWNER iotflow\n",
        )
        part.rename(final)

    def run(self, command: list[str], directory: Path, text: str = "") -> None:
        done = subprocess.run(
            command,
            cwd=directory,
            input=text,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **self.identity,
        )
        # Single-user mode ends with 0 whatever became of its statements.
        if done.returncode or re.search(r"\b(ERROR|FATAL):", done.stdout):
            raise Failure(f"{self.name}: {command[0]} failed:\n{done.stdout}")

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "400",
        }
        pairs = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        return [self.program("postgres"), "-D", str(self.data.resolve()), *pairs]

    def ask(self) -> str:
        done = subprocess.run(
            [self.program("psql"), "-X", "-A", "-t", "-w", "-c", "SHOW server_version"]
            + ["-h", "127.0.0.1", "-p", str(self.port), "-U", "iotflow", "iotflow"],
            env={
                **os.environ,
                "PGPASSWORD": self.state.passwords["postgres"],
                "PGCONNECT_TIMEOUT": "2",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ConnectionError(done.stderr)
        return f"PostgreSQL {done.stdout.split()[0]}"
