"""Three Cassandra nodes, three copies, LOCAL_QUORUM: one of them goes, and nobody notices."""

import json
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.query import SimpleStatement
from django.conf import settings
from django.db import connections

from iotflow.lib.timeparse import format_ms, now_ms
from telemetry.stores.cassandra import Unit, by_replicas
from tests.environment import STORES
from tests.server import real_environment, running
from tests.services import control, eventually, hung, killed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
NODES = ("cassandra-1", "cassandra-2", "cassandra-3")
DEVICES = 8
PAUSE = 0.08  # between two submissions of a device: the cores are for the nodes that start


@pytest.fixture(autouse=True)
def cluster() -> None:
    """Fails, and skips nothing, where there is no cluster; all its nodes run, before each test."""
    assert STORES == "cluster", "these tests need the cluster: make test-cluster"
    for name in NODES:
        control("start", name)


@pytest.fixture
def url(transactional_db: None, tmp_path: Path) -> Iterator[str]:
    never = dict.fromkeys(("RATE_DEVICE_MESSAGES", "RATE_DEVICE_READINGS"), "1000000/s")
    with running(tmp_path / "server.log", real_environment(**never)) as address:
        yield address


@dataclass
class Ledger:
    """What the server answered: values by device and time, and the time and word of any other."""

    stored: dict[tuple[int, int], int] = field(default_factory=dict)
    others: list[tuple[float, str]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """Not those of a moment in which the machine itself stood still, for then nothing is
        answered in time, cluster or not; they are told all the same.
        """
        failed, excused = [], []
        for at, word in self.others:
            near = any(start - 2 < at < end + 2 for start, end in self.stalls)
            (excused if near else failed).append(word)
        if excused:
            stalls = ", ".join(f"{end - start:.1f} s" for start, end in self.stalls)
            warnings.warn(
                f"{len(excused)} failed as the machine stood still ({stalls})", stacklevel=2
            )
        return failed

    def watch(self, stop: threading.Event) -> None:
        """Note when this process, which wants to run ten times a second, did not for a second."""
        last = time.monotonic()
        while not stop.wait(0.1):
            now = time.monotonic()
            if now - last > 1:
                self.stalls.append((last, now))
            last = now


@contextmanager
def steady(url: str, devices) -> Iterator[Ledger]:
    """Every device submits one reading after the other, inside.

    Only where its idle connection to the web server was closed under it, it sends one again, with
    the same time, as devices do; whatever is answered counts.
    """
    ledger, stop = Ledger(), threading.Event()

    def submit(device) -> None:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
        headers = {"X-API-Key": device.key, "Content-Type": "application/json"}

        def send(body: str) -> int:
            connection.request("POST", "/api/v1/telemetry", body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status

        n = 0
        while not stop.wait(PAUSE):
            n, at = n + 1, now_ms()
            body = json.dumps({"data": {"n": n}, "timestamp": format_ms(at)})
            begun = time.monotonic()
            try:
                status = send(body)
            except ConnectionError:
                connection.close()
                status = send(body)
            took = time.monotonic() - begun
            if status == 201:
                ledger.stored[device.id, at] = n
            else:
                ledger.others.append((time.monotonic(), f"{status} after {took:.2f} s"))

    with ThreadPoolExecutor(len(devices) + 1) as threads:
        running = [threads.submit(submit, device) for device in devices]
        running.append(threads.submit(ledger.watch, stop))
        try:
            yield ledger
        finally:
            stop.set()
    for one in running:
        one.result()


def found(devices) -> dict[tuple[int, int], int]:
    """All there is of them, asked of Cassandra by partition, by a driver of its own."""
    options = settings.DATABASES["cassandra"]["OPTIONS"]["connection"]
    quorum = ExecutionProfile(consistency_level=ConsistencyLevel.LOCAL_QUORUM, request_timeout=10)
    with Cluster(
        settings.CASSANDRA_HOSTS.split(","),
        port=options["port"],
        execution_profiles={EXEC_PROFILE_DEFAULT: quorum},
    ) as cluster:
        session = cluster.connect(settings.CASSANDRA_KEYSPACE)
        return {
            (device.id, ts): value
            for device in devices
            for (day,) in session.execute(
                "SELECT day FROM device_days WHERE device_id = %s", [device.id]
            )
            for ts, value in session.execute(
                "SELECT to_unix_timestamp(ts), long_value FROM device_data "
                "WHERE device_id = %s AND day = %s",
                [device.id, day],
            )
        }


def submit_once(url: str, device) -> int:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    headers = {"X-API-Key": device.key, "Content-Type": "application/json"}
    connection.request("POST", "/api/v1/telemetry", '{"data": {"n": 0}}', headers)
    return connection.getresponse().status


def health(url: str) -> tuple[int, str]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", "/health?detailed=true")
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())["status"]


def test_a_node_that_is_killed_and_comes_back_costs_no_submission_and_no_reading(
    url, alice, make_device
):
    devices = [make_device(alice) for _ in range(DEVICES)]
    with steady(url, devices) as ledger:
        time.sleep(3)
        with killed("cassandra-2"):
            time.sleep(5)
        time.sleep(5)
    assert ledger.failed == []
    assert len(ledger.stored) > 1000
    assert found(devices) == ledger.stored
    # What the killed node missed is on the two others, so that one more of those may go.
    with hung("cassandra-3"):
        assert found(devices) == ledger.stored


def test_a_node_that_hangs_costs_no_reading_and_next_to_no_submission(url, alice, make_device):
    """It is out only when its time is over, and then both others have to answer in what is left
    of the second: one of them may be collecting garbage. That is one group of submissions, which
    holds one of each device at most.
    """
    devices = [make_device(alice) for _ in range(DEVICES)]
    with steady(url, devices) as ledger:
        time.sleep(2)
        with hung("cassandra-1"):
            time.sleep(12)
        time.sleep(3)
    assert len(ledger.failed) <= DEVICES
    assert len(ledger.stored) > 500
    there = found(devices)
    assert ledger.stored.items() <= there.items()
    # What was refused for want of time may be stored all the same, and nothing else is.
    assert len(there) - len(ledger.stored) <= len(ledger.others)


def test_without_a_quorum_nothing_is_promised_and_it_heals_by_itself(url, alice, sensor):
    assert submit_once(url, sensor) == 201
    with hung("cassandra-2"), hung("cassandra-3"):
        begun = time.monotonic()
        assert {submit_once(url, sensor) for _ in range(5)} == {503}
        assert time.monotonic() - begun < 8  # time-outs at first, then the breaker
        assert health(url) == (503, "unhealthy")
    eventually(lambda: submit_once(url, sensor) == 201, seconds=40)
    eventually(lambda: health(url) == (200, "healthy"))


def test_a_batch_holds_only_what_the_same_nodes_hold(settings):
    """On three nodes with two copies, where no node holds everything."""
    session = connections["cassandra"].connection.session
    name = f"{settings.CASSANDRA_KEYSPACE}_two"
    copies = "{'class': 'NetworkTopologyStrategy', 'dc1': 2}"
    session.execute(f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {copies}")
    metadata = session.cluster.metadata
    keys = [n.to_bytes(4) for n in range(200)]
    units = [Unit([SimpleStatement("", routing_key=key)], 0) for key in keys]

    def nodes(unit: Unit) -> frozenset[str]:
        replicas = metadata.get_replicas(name, unit.statements[0].routing_key)
        return frozenset(host.address for host in replicas)

    assert by_replicas(session, units) == [units]  # three copies
    settings.CASSANDRA_KEYSPACE = name
    groups = by_replicas(session, units)
    assert len(groups) == 3
    assert all(len({nodes(unit) for unit in group}) == 1 for group in groups)
    assert sorted(map(id, units)) == sorted(id(unit) for group in groups for unit in group)
    session.execute(f"DROP KEYSPACE {name}")


def test_the_keyspace_has_a_copy_on_each_node(alice, sensor):
    assert sensor.api.post("/telemetry", {"data": {"n": 1}}).status == 201
    metadata = connections["cassandra"].connection.session.cluster.metadata
    keyspace = metadata.keyspaces[settings.CASSANDRA_KEYSPACE]
    assert keyspace.replication_strategy.export_for_schema() == (
        "{'class': 'NetworkTopologyStrategy', 'dc1': '3'}"
    )
    assert {(host.datacenter, host.rack) for host in metadata.all_hosts()} == {
        ("dc1", "rack1"), ("dc1", "rack2"), ("dc1", "rack3"),
    }  # fmt: skip
