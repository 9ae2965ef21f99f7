"""SecantusDB, which speaks MongoDB's protocol: a stand-in for tests, never for production."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from pathlib import Path

from native import cache
from native.server import Server, receive
from native.state import Failure

# The server in Rust is the one to use; the one in Python needs no compiler but is far slower.
CRATE = "0.5.3-beta.196"
WHEEL = "0.7.0b3"
OP_MSG = 2013
USER_EXISTS = 51003


class Mongo(Server):
    name = "mongo"

    def missing_packages(self) -> list[str]:
        # Only root can install a compiler; for others the wheel does.
        if self.rust.exists() or self.wheel.exists() or os.geteuid() != 0:
            return []
        needed = {"cargo": "cargo", "cmake": "cmake", "g++": "g++"}
        return [package for tool, package in needed.items() if not shutil.which(tool)]

    @property
    def rust(self) -> Path:
        return cache.directory() / f"secantusd-{CRATE}"

    @property
    def wheel(self) -> Path:
        return cache.directory() / f"secantusdb-{WHEEL}"

    @property
    def python_data(self) -> Path:
        return self.state.home / "data" / "mongo-py"

    @property
    def in_rust(self) -> bool:
        """The two servers do not promise to read each other's files: a set stays with its own."""
        return (self.rust / "bin" / "secantusd-rs").exists() and not self.python_data.exists()

    @property
    def data(self) -> Path:
        return self.state.home / "data" / "mongo" if self.in_rust else self.python_data

    def fetch(self) -> None:
        if self.in_rust or self.wheel.exists():
            return
        try:
            self.build()
        except Failure as failure:
            self.say(f"no server in Rust ({failure}): taking the slower one in Python")
            what = f"SecantusDB {WHEEL} with pip, once"
            cache.provide(self.wheel, "bin/secantusd-py", what, self.say, install_wheel)

    def build(self) -> None:
        missing = [tool for tool in ("cargo", "cmake", "g++") if not shutil.which(tool)]
        if missing:
            raise Failure(f"{', '.join(missing)} not found")
        if self.python_data.exists():
            raise Failure(f"{self.python_data} was made by the other")
        what = f"SecantusDB {CRATE} with cargo, 5 to 10 minutes, once"
        cache.provide(self.rust, "bin/secantusd-rs", what, self.say, build_in_rust)

    def prepare(self) -> None:
        super().prepare()
        # An own, empty file: without it one in the home directory would be read.
        (self.data / "secantusd.toml").touch()
        if not (self.data / "user-made").exists():
            self.make_user()

    def command(self) -> list[str]:
        return [*self.open_command(), "--auth", "--sync-on-commit"]

    def open_command(self) -> list[str]:
        if self.in_rust:
            program = [str(self.rust / "bin" / "secantusd-rs")]
        else:
            scripts = self.wheel / "bin"
            program = [str(scripts / "python"), str(scripts / "secantusd-py")]
        return [
            *program,
            *("--config", str(self.data / "secantusd.toml")),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--storage-path", str(self.data / "db")),
            *("--cache-size", "256M", "--log-level", "WARNING"),
        ]

    def make_user(self) -> None:
        """The server in Python makes users only while it runs without --auth: so do both."""
        self.spawn(self.open_command())
        self.wait_until_ready()
        roles = ["readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"]
        answer = self.call(
            {
                "createUser": "iotflow",
                "pwd": self.state.passwords["mongo"],
                "roles": [{"role": role, "db": "admin"} for role in roles],
                "$db": "admin",
            }
        )
        exists = b"\x10code\0" + struct.pack("<i", USER_EXISTS) in answer
        if not succeeded(answer) and not exists:
            raise Failure(f"{self.name}: createUser answered {answer!r}")
        self.end(self.running_pid())
        (self.data / "user-made").touch()

    def ask(self) -> str:
        if not succeeded(self.call({"hello": 1, "$db": "admin"})):
            raise ConnectionError("hello was refused")
        version = CRATE if self.in_rust else f"{WHEEL} in Python"
        return f"SecantusDB {version} (speaks the MongoDB protocol; a stand-in for tests)"

    def call(self, command: dict[str, object]) -> bytes:
        body = struct.pack("<iB", 0, 0) + document(command)
        with self.connect() as connection:
            connection.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, OP_MSG) + body)
            size = struct.unpack("<i", receive(connection, 4))[0]
            return receive(connection, size - 4)


def document(fields: dict[str, object]) -> bytes:
    """BSON of the few types that the commands here need."""
    body = b"".join(element(key, value) for key, value in fields.items())
    return struct.pack("<i", len(body) + 5) + body + b"\0"


def element(key: str, value: object) -> bytes:
    name = key.encode() + b"\0"
    if isinstance(value, str):
        return b"\x02" + name + struct.pack("<i", len(value.encode()) + 1) + value.encode() + b"\0"
    if isinstance(value, int):
        return b"\x10" + name + struct.pack("<i", value)
    if isinstance(value, list):
        return b"\x04" + name + document({str(i): item for i, item in enumerate(value)})
    if isinstance(value, dict):
        return b"\x03" + name + document(value)
    raise TypeError(type(value))


def succeeded(answer: bytes) -> bool:
    return b"\x01ok\0" + struct.pack("<d", 1) in answer


def build_in_rust(part: Path, job: cache.Job) -> None:
    # Link-time optimisation doubles the time to build and gains tests nothing. The crate declares
    # a newer compiler than it needs.
    settings = {"LTO": "off", "CODEGEN_UNITS": "16", "OPT_LEVEL": "2"}
    job.run(
        ["cargo", "install", "--locked", "--ignore-rust-version", "secantus-mdb"]
        + ["--version", CRATE, "--root", str(part)],
        environment={f"CARGO_PROFILE_RELEASE_{key}": value for key, value in settings.items()},
    )


def install_wheel(part: Path, job: cache.Job) -> None:
    job.run([sys.executable, "-m", "venv", str(part)])
    job.run([str(part / "bin" / "python"), "-m", "pip", "install", f"secantusdb=={WHEEL}"])
