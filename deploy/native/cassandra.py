"""Apache Cassandra itself, one node: its jars by Maven, started without its shell scripts."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from string import Template

from native import cache
from native.server import Server, receive
from native.state import Failure

VERSION = "5.0.8"
JAVA = 17
FILES = Path(__file__).resolve().parent.parent / "cassandra"

# Native protocol, version 4: operations used here.
STARTUP, READY, QUERY, RESULT = 0x01, 0x02, 0x07, 0x08


class Cassandra(Server):
    name = "cassandra"
    patience = 180

    def missing_packages(self) -> list[str]:
        packages = [] if java() else [f"openjdk-{JAVA}-jre-headless"]
        if not self.home.exists() and not shutil.which("mvn"):
            packages.append("maven")
        return packages

    @property
    def home(self) -> Path:
        return cache.directory() / f"cassandra-{VERSION}"

    def fetch(self) -> None:
        def build(part: Path, job: cache.Job) -> None:
            job.run(
                ["mvn", "-B", "-f", str(FILES / "pom.xml"), "dependency:copy-dependencies"]
                + [f"-Dcassandra.version={VERSION}", f"-DoutputDirectory={part / 'lib'}"]
                + ["-Dstyle.color=never"],
                attempts=2,
            )

        what = f"Apache Cassandra {VERSION} with Maven, 67 MB, once"
        cache.provide(self.home, f"lib/cassandra-all-{VERSION}.jar", what, self.say, build)

    def prepare(self) -> None:
        super().prepare()
        (self.data / "tmp").mkdir(exist_ok=True)
        text = Template((FILES / "cassandra.yaml").read_text()).substitute(self.configuration)
        (self.data / "cassandra.yaml").write_text(text)

    @property
    def configuration(self) -> dict[str, object]:
        """What cassandra.yaml is filled in with."""
        return {
            "home": self.data,
            "address": self.address,
            "port": self.port,
            "storage_port": self.state.ports["cassandra_storage"],
            "seed": self.address,
            "snitch": "SimpleSnitch",
            "memtable": "256MiB",
        }

    @property
    def options(self) -> list[str]:
        """Of the JVM, besides those of any node."""
        alone = ["-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=1"]
        return ["-Xms1G", "-Xmx1G", *alone]  # it has nobody to wait for

    def command(self) -> list[str]:
        program = java()
        if program is None:
            raise Failure(f"Cassandra {VERSION} needs Java {JAVA}")
        jars = self.home / "lib"
        agent = next(jars.glob("jamm-*.jar"))
        return [
            program,
            f"@{FILES / 'jvm.options'}",
            *self.options,
            f"-javaagent:{agent}",
            f"-Djava.io.tmpdir={self.data / 'tmp'}",
            f"-Dcassandra.config={(self.data / 'cassandra.yaml').as_uri()}",
            f"-Dcassandra.storagedir={self.data}",
            f"-Dcassandra.logdir={self.log.parent}",
            f"-Dlogback.configurationFile={FILES / 'logback.xml'}",
            "-cp",
            f"{jars}/*",
            "org.apache.cassandra.service.CassandraDaemon",
        ]

    def ask(self) -> str:
        with self.connect() as connection:
            call(connection, STARTUP, b"\0\1" + short("CQL_VERSION") + short("3.0.0"), READY)
            statement = b"SELECT release_version FROM system.local"
            # Consistency ONE, no flags.
            body = struct.pack(">i", len(statement)) + statement + b"\0\1\0"
            answer = call(connection, QUERY, body, RESULT)
        # One row of one column: the value ends the frame.
        found = re.search(rb"\d+\.\d+[\w.~-]*$", answer)
        if found is None:
            raise ConnectionError(repr(answer))
        return f"Apache Cassandra {found[0].decode()}"


def short(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def call(connection: socket.socket, operation: int, body: bytes, expected: int) -> bytes:
    connection.sendall(struct.pack(">BBHBi", 4, 0, 0, operation, len(body)) + body)
    _, _, _, answered, size = struct.unpack(">BBHBi", receive(connection, 9))
    answer = receive(connection, size)
    if answered != expected:
        raise ConnectionError(repr(answer))
    return answer


def java() -> str | None:
    """The one Java of those here that Cassandra and its options are made for."""
    homes = [Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    places = [home / "bin" / "java" for home in homes]
    places += [Path(found) for found in [shutil.which("java")] if found]
    for place in places:
        if place.exists() and java_release(place) == JAVA:
            return str(place)
    return None


def java_release(program: Path) -> int | None:
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else None
