#!/usr/bin/env python3
"""PostgreSQL, Cassandra, Redis, MongoDB, Mosquitto for development and tests, without any set-up.

They run in Docker where its engine answers, otherwise as processes of this machine (Linux).
All they keep is in `.services`, which may be removed while they are down.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from compose import Container, docker_answers
from native import cache
from native.cassandra import Cassandra
from native.cluster import NODES, Cluster, ClusterState
from native.mongo import Mongo
from native.mosquitto import Mosquitto
from native.postgres import Postgres
from native.redis import Redis
from native.server import Server
from native.state import NAMES, Failure, State

T = TypeVar("T")
CONTROL = Path(__file__).resolve()
NATIVE: tuple[type[Server], ...] = (Postgres, Cassandra, Redis, Mongo, Mosquitto)

EPILOG = """\
names: postgres, cassandra, redis, mongo, mosquitto; of the cluster: cassandra-1, cassandra-2,
cassandra-3

SERVICES=native in the environment keeps them out of Docker. The settings for the
application are written to .services/env:  . .services/env

`cluster` is three Cassandra nodes on 127.0.0.11 to 13, besides those; settings for it are
written to .services/cluster-env.
"""


class Controlled(Protocol):
    """A server that can be told what the commands below say."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def pid(self) -> int | None: ...
    def fetch(self) -> None: ...
    def start(self) -> str: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def halt(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def status(self) -> tuple[str, str]: ...


class Servers:
    """All servers of this clone, by name."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.native = os.environ.get("SERVICES") == "native" or not docker_answers()
        self.all: dict[str, Controlled] = {}
        for made in NATIVE:
            # Mosquitto asks a server that is a process of this machine, so it is one too.
            native = self.native or made is Mosquitto
            self.all[made.name] = made(state) if native else Container(made.name, state)

    def up(self, names: Iterable[str]) -> None:
        begun, chosen = time.monotonic(), [self.all[name] for name in names]
        if any(isinstance(server, Server) for server in chosen):
            self.install(chosen)
        versions = at_once(chosen, bring_up)
        self.write_env(versions)
        seconds = time.monotonic() - begun
        print(f"{len(chosen)} up in {seconds:.1f} s; settings: {self.state.env_file}")

    def install(self, chosen: list[Controlled]) -> None:
        if not sys.platform.startswith("linux"):
            raise Failure("without a Docker engine this works on Linux only")
        native = [server for server in chosen if isinstance(server, Server)]
        packages = [package for server in native for package in server.missing_packages()]
        cache.install(packages, self.state.home / "logs" / "apt.log")

    def start(self, name: str) -> None:
        self.write_env({name: self.all[name].start()})

    def write_env(self, versions: dict[str, str]) -> None:
        """Beside those just started, the settings name every one that was not taken down."""
        for name, server in self.all.items():
            if name not in versions and self.state.pid_file(name).exists():
                versions[name] = server.status()[1]
        self.state.write_env(versions, CONTROL)

    def down(self) -> None:
        at_once(self.all.values(), lambda server: server.stop())
        self.state.env_file.unlink(missing_ok=True)

    def status(self) -> bool:
        """Print a line for each; whether all that are wanted are up."""
        wanted = [name for name in NAMES if self.state.pid_file(name).exists()]
        words = []
        for name, server in self.all.items():
            word, version = server.status()
            address, pid = f"127.0.0.1:{server.port}", server.pid or "-"
            print(f"{name:<11} {word:<7} {address:<16} {pid!s:<8} {version}")
            words += [word] if name in wanted else []
        return bool(words) and all(word == "up" for word in words)


def bring_up(server: Controlled) -> str:
    server.fetch()
    return server.start()


def at_once(servers: Iterable[Controlled], act: Callable[[Controlled], T]) -> dict[str, T]:
    """Act on all in parallel; when all are done, fail if any did."""
    with ThreadPoolExecutor() as pool:
        jobs = {server.name: pool.submit(act, server) for server in servers}
    errors = [error for job in jobs.values() if (error := job.exception())]
    if len(errors) > 1 and all(isinstance(error, Failure) for error in errors):
        raise Failure("\n".join(map(str, errors)))
    return {name: job.result() for name, job in jobs.items()}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    up = verbs.add_parser("up", help="start those that do not run, write .services/env")
    up.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    verbs.add_parser("down", help="stop all; data, ports and passwords stay")
    verbs.add_parser("status", help="one line for each; exit code 1 unless all are up")
    verbs.add_parser("env", help="print .services/env")
    one = {
        "kill": "pull the plug: SIGKILL",
        "halt": "end one in order; `start` brings it back with its data",
        "start": "start one again and wait until it answers",
        "pause": "freeze it: connections stay open and nothing answers",
        "resume": "let it go on after a pause",
    }
    for verb, text in one.items():
        verbs.add_parser(verb, help=text).add_argument(
            "name", choices=(*NAMES, *NODES), metavar="NAME"
        )
    cluster = verbs.add_parser("cluster", help="three Cassandra nodes: up, down, status, nodetool")
    add_cluster(cluster.add_subparsers(dest="act", required=True, metavar="COMMAND"))
    return top


def add_cluster(verbs: Any) -> None:
    verbs.add_parser("up", help="start those that do not run, write .services/cluster-env")
    verbs.add_parser("down", help="stop all; their data stay")
    verbs.add_parser("status", help="one line for each; exit code 1 unless all are up")
    tool = verbs.add_parser("nodetool", help="Cassandra's own: nodetool cassandra-1 status")
    tool.add_argument("name", choices=NODES, metavar="NAME")
    tool.add_argument("arguments", nargs=argparse.REMAINDER)


def run_cluster(arguments: argparse.Namespace, state: ClusterState) -> int:
    if not sys.platform.startswith("linux"):
        raise Failure("the cluster runs on Linux only")
    state.make()
    cluster = Cluster(state)
    act = arguments.act if arguments.verb == "cluster" else arguments.verb
    if act == "status":
        return 0 if cluster.status() else 1
    if act == "nodetool":
        cluster.nodes[arguments.name].nodetool(arguments.arguments)
    with state.lock():
        getattr(cluster if act in ("up", "down") else cluster.nodes[arguments.name], act)()
    return 0


def run(arguments: argparse.Namespace, state: State) -> int:
    if arguments.verb == "env":
        if not state.env_file.exists():
            raise Failure("no server was started: run `up` first")
        print(state.env_file.read_text(), end="")
        return 0
    state.make()
    if arguments.verb == "status":
        return 0 if Servers(state).status() else 1
    with state.lock():
        servers = Servers(state)
        if arguments.verb == "up":
            servers.up(arguments.only)
        elif arguments.verb == "down":
            servers.down()
        elif arguments.verb == "start":
            servers.start(arguments.name)
        else:
            getattr(servers.all[arguments.name], arguments.verb)()
    return 0


def main() -> int:
    arguments = parser().parse_args()
    try:
        home = CONTROL.parent.parent / ".services"
        if arguments.verb == "cluster" or getattr(arguments, "name", None) in NODES:
            return run_cluster(arguments, ClusterState(home))
        return run(arguments, State(home))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # At once: threads that still wait for a server would keep the interpreter for minutes.
        os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
