"""Thousands of requests that mean harm: none of them is answered 5xx, and the server goes on.

Whatever a client sends is its own mistake, which the server has to name or to refuse. Limits on
rates are off, or most of these would get no further than those. On the stores of the run.
"""

import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from django.conf import settings
from native import process

from iotflow.lib.child import Child, answers, free_port, server
from tests.endpoints import endpoints
from tests.environment import CHOICES, ROOT, STORES
from tests.fuzz.hostile import KINDS, Attacker, Target
from tests.fuzz.wire import Silence, Wire
from tests.server import real_environment

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.timeout(1200)
# On real servers what their drivers do with it; the rest has been tried on the embedded stores.
REQUESTS = 10_000 if STORES == "embedded" else 3000
WARM_UP = REQUESTS // 3
CLIENTS = 8
SEED = 7  # another one sends others
GROWTH_BYTES = 96 * 2**20
ADMIN, PASSWORD = "admin", "swordfish17"
WAITS = ("INGEST_WAIT", "BATCH_WAIT", "REDIS_TIMEOUT", "MONGODB_TIMEOUT")
ENDS_PROOFS = ("/auth/logout", "/auth/logout-all")
numbers = count(1)
PAGES = re.compile(r'href="(/admin/[a-z/]+/)(?:\?[^"]*)?"')


@dataclass(frozen=True)
class Victim:
    child: Child
    url: str
    log: Path

    @property
    def pids(self) -> list[int]:
        return process.family(self.child.pid)

    @property
    def memory(self) -> int:
        """Bytes of it and of its workers that are resident."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    """A server of its own with a superuser, without limits on rates, and in no hurry."""
    unlimited = {name: "" for name in dir(settings) if name.startswith("RATE_")}
    patient = {f"{name}_MS": "10000" for name in WAITS}
    more = {**unlimited, **patient, "WORKER_THREAD": "1", "VAR_DIR": str(tmp_path / "var")}
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment = {**kept, **more} if STORES == "embedded" else real_environment(**more)
    make = ["createsuperuser", "--noinput", "--username", ADMIN, "--email", "admin@example.com"]
    for command in [["setup_stores"], make]:
        subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={**environment, "DJANGO_SUPERUSER_PASSWORD": PASSWORD},
            check=True,
            timeout=120,
        )
    port, log = free_port(), tmp_path / "server.log"
    child = server(port, log, environment)
    try:
        url = f"http://127.0.0.1:{port}"
        assert answers(url, child, 60), child.obituary()
        yield Victim(child, url, log)
    finally:
        child.stop()


@pytest.fixture
def target(victim: Victim) -> Target:
    """What there is to attack: proofs of a device, a user and staff, and others' things."""
    with httpx.Client(base_url=victim.url, timeout=30, trust_env=False) as client:
        register(client, "bob")
        proofs = {"staff": log_in(client, ADMIN), "user": log_in(client, "bob")}
        proofs["device"] = ("X-API-Key", add(client, proofs, "devices/register")["api_key"])
        other = add(client, proofs, "devices/register")
        form = {"username": ADMIN, "password": PASSWORD, "next": "/admin/"}
        client.get("/admin/login/")
        form["csrfmiddlewaretoken"] = client.cookies["csrftoken"]
        assert client.post("/admin/login/", data=form).status_code == 302
        lists = sorted(set(PAGES.findall(client.get("/admin/").text)))
        assert len(lists) > 8
        own = f"/admin/devices/device/{other['id']}"
        return Target(
            host=urlsplit(victim.url).netloc,
            proofs=proofs,
            cookie="; ".join(f"{name}={value}" for name, value in client.cookies.items()),
            csrf=client.cookies["csrftoken"],
            ids={
                "device_id": str(other["id"]),
                "group_id": str(add(client, proofs, "groups")["id"]),
                "user_id": register(client, "carol")["user_id"],
            },
            endpoints=[one for one in endpoints() if not one[1].endswith(ENDS_PROOFS)],
            admin_pages=[
                *lists,
                *(f"{page}add/" for page in lists),
                *(f"{own}/{page}/" for page in ("change", "overview", "telemetry", "events")),
            ],
        )


def log_in(client: httpx.Client, username: str) -> tuple[str, str]:
    who = {"username": username, "password": PASSWORD}
    answer = client.post("/api/v1/auth/login", json=who)
    return "Authorization", f"Bearer {answer.json()['token']}"


def register(client: httpx.Client, username: str) -> dict:
    who = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
    answer = client.post("/api/v1/auth/register", json=who)
    assert answer.status_code == 201, answer.text
    return answer.json()["user"]


def add(client: httpx.Client, proofs: dict[str, tuple[str, str]], path: str) -> dict:
    """A device or a group of the user's."""
    body, headers = {"name": f"thing {next(numbers)}"}, dict([proofs["user"]])
    answer = client.post(f"/api/v1/{path}", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["group" if path == "groups" else "device"]


@dataclass(frozen=True)
class Outcome:
    """The status is None where the connection ended without an answer."""

    number: int
    kind: str
    is_http: bool
    status: int | None
    is_silence: bool = False

    @property
    def is_fault(self) -> bool:
        """A refusal without an answer is right for what is no HTTP, and for nothing else."""
        unanswered = self.status is None and self.is_http
        return self.is_silence or unanswered or (self.status or 0) >= 500


def besiege(target: Target, attacks: range) -> list[Outcome]:
    """Send these attacks from CLIENTS threads, each with a connection of its own."""

    def send(own: range) -> list[Outcome]:
        host, _, port = target.host.partition(":")
        wire, attacker = Wire(host, int(port)), Attacker(target, SEED)
        return [one(wire, attacker, number) for number in own]

    with ThreadPoolExecutor(CLIENTS) as threads:
        found = threads.map(send, (attacks[n::CLIENTS] for n in range(CLIENTS)))
        return [outcome for outcomes in found for outcome in outcomes]


def one(wire: Wire, attacker: Attacker, number: int) -> Outcome:
    attack = attacker.attack(number)
    try:
        return Outcome(number, attack.kind, not attack.breaks, wire.send(attack))
    except Silence:
        return Outcome(number, attack.kind, not attack.breaks, None, is_silence=True)


def test_hostile_requests_get_no_5xx_and_the_server_lives(victim, target):
    outcomes = besiege(target, range(WARM_UP))
    pids, before = victim.pids, victim.memory
    outcomes += besiege(target, range(WARM_UP, REQUESTS))
    after = victim.memory
    logger.info("%d MB of memory, then %d MB", before / 2**20, after / 2**20)
    ways = Counter((outcome.kind, outcome.status or "closed") for outcome in outcomes)
    for (kind, status), times in sorted(ways.items(), key=str):
        logger.info("%-13s %s %d", kind, status, times)
    faults = [outcome for outcome in outcomes if outcome.is_fault]
    assert [(fault.number, fault.kind, fault.status) for fault in faults] == []
    assert len(outcomes) == REQUESTS
    assert victim.pids == pids
    assert after - before < GROWTH_BYTES
    log = victim.log.read_text(errors="replace")
    assert "Traceback" not in log
    assert "panicked" not in log
    name, value = target.proofs["device"]
    body, headers = {"data": {"a": 1}}, {name: value}
    answer = httpx.post(f"{victim.url}/api/v1/telemetry", json=body, headers=headers)
    assert answer.status_code == 201, "the key of the device holds still"
    several = {kind for kind, number in Counter(kind for kind, _ in ways).items() if number > 2}
    assert len(several) > len(set(KINDS)) // 2, "most kinds get further than to one refusal"
