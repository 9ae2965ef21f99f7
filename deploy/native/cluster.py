"""Three Cassandra nodes on addresses of their own, to try and test what one node cannot show.

Always processes of this machine, Linux only: all of 127/8 is its own there.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from native import cache
from native.cassandra import FILES, Cassandra, java
from native.state import Failure, State, export, write_private

NUMBERS = (1, 2, 3)
NODES = tuple(f"cassandra-{number}" for number in NUMBERS)
DATACENTER = "dc1"
SEED = "127.0.0.11"


class ClusterState(State):
    """The directory `.services/cluster`; the settings go to `.services/cluster-env`."""

    with_port = ("cassandra", "cassandra_storage", *(f"jmx-{number}" for number in NUMBERS))

    def __init__(self, services: Path) -> None:
        super().__init__(services / "cluster")
        self.env_file = services / "cluster-env"

    def make(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        super().make()

    def write_cluster_env(self, version: str) -> None:
        values = {
            "CASSANDRA_HOSTS": ",".join(address(number) for number in NUMBERS),
            "CASSANDRA_PORT": str(self.ports["cassandra"]),
            "CASSANDRA_KEYSPACE": "telemetry",
            "CASSANDRA_DATACENTER": DATACENTER,
            "CASSANDRA_REPLICATION_FACTOR": "3",
            "CASSANDRA_CONSISTENCY": "LOCAL_QUORUM",
            "CLUSTER_STACK": f"{len(NUMBERS)} nodes of {version}",
        }
        lines = ["# Written by deploy/services.py cluster up. To use it: . .services/cluster-env"]
        lines += [export(*pair) for pair in values.items()]
        write_private(self.env_file, "\n".join(lines) + "\n")


def address(number: int) -> str:
    return f"127.0.0.{10 + number}"


class Node(Cassandra):
    """One of the three: a rack each, as in production; half the heap of a single one."""

    patience = 300  # beside two others on one machine, and whatever is asked of them

    def __init__(self, state: ClusterState, number: int) -> None:
        self.number = number
        self.name = NODES[number - 1]  # type: ignore[misc]
        self.address = address(number)  # type: ignore[misc]
        super().__init__(state)

    @property
    def port_name(self) -> str:
        return "cassandra"

    @property
    def is_new(self) -> bool:
        return not (self.data / "data").exists()

    @property
    def configuration(self) -> dict[str, object]:
        return {
            **super().configuration,
            "seed": SEED,
            "snitch": "GossipingPropertyFileSnitch",
            "memtable": "128MiB",
        }

    def prepare(self) -> None:
        super().prepare()
        self.rack_file.write_text(f"dc={DATACENTER}\nrack=rack{self.number}\n")

    @property
    def rack_file(self) -> Path:
        return self.data / "cassandra-rackdc.properties"

    @property
    def jmx_port(self) -> int:
        return self.state.ports[f"jmx-{self.number}"]

    @property
    def options(self) -> list[str]:
        return [
            "-Xms512M",
            "-Xmx512M",
            f"-Dcassandra.jmx.local.port={self.jmx_port}",
            f"-Dcassandra-rackdc.properties={self.rack_file.as_uri()}",
            # Shorter than on a real network; with 1 ms, as alone, a node does not find its seed.
            "-Dcassandra.ring_delay_ms=4000",
            "-Dcassandra.consistent.rangemovement=false",
        ]

    def nodetool(self, arguments: list[str]) -> None:
        """Becomes Cassandra's own nodetool, speaking to this node."""
        program = java()
        if program is None or self.pid is None:
            raise Failure(f"{self.name} does not run")
        java_options = [f"@{FILES / 'jvm.options'}", "-Xmx128M", f"-Duser.home={self.data / 'tmp'}"]
        java_options += [f"-Dlogback.configurationFile={FILES / 'logback.xml'}"]
        tool = ["org.apache.cassandra.tools.NodeTool", "-p", str(self.jmx_port), *arguments]
        os.execv(program, [program, *java_options, "-cp", f"{self.home / 'lib'}/*", *tool])


class Cluster:
    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self.nodes = {node.name: node for node in (Node(state, number) for number in NUMBERS)}

    def up(self) -> None:
        """Start what does not run. Nodes without data join one after another, as they must."""
        nodes = list(self.nodes.values())
        cache.install(nodes[0].missing_packages(), self.state.home / "logs" / "apt.log")
        nodes[0].fetch()
        if any(node.is_new for node in nodes):
            versions = [node.start() for node in nodes]
        else:
            with ThreadPoolExecutor() as pool:
                versions = list(pool.map(Node.start, nodes))
        self.state.write_cluster_env(versions[0])
        print(f"{len(nodes)} nodes up; settings: {self.state.env_file}")

    def down(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.stop, self.nodes.values()))
        self.state.env_file.unlink(missing_ok=True)

    def status(self) -> bool:
        """Print a line for each; whether all are up."""
        words = []
        for node in self.nodes.values():
            word, version = node.status()
            place = f"{node.address}:{node.port}"
            print(f"{node.name:<11} {word:<7} {place:<17} {node.pid or '-'!s:<8} {version}")
            words.append(word)
        return all(word == "up" for word in words)
