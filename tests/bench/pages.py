"""`make bench-pages`: how long the staff's pages take with many devices, readings and events."""

import argparse
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles
from time import monotonic, perf_counter, sleep
from typing import Any
from uuid import uuid4

import httpx

from tests.bench import filling, ground, machine, report, servers
from tests.bench.failure import Failure
from tests.bench.filling import History
from tests.bench.loads import say

DEVICES, READINGS, EVENTS = 100_000, 1_000_000, 1_000_000
QUICK_SHARE = 20
OWNERS, SPEAKING, HISTORY = 50, 100, 90 * 1440
CHUNK = 5000
EVENT_DAYS = 30
FRESH = 300
ROUNDS = 30
PASSWORD = "swordfish 17"
SETTLE_SECONDS = 300
AWAY = "does not answer now"  # what a page says that could not ask a store


def pages(asked: argparse.Namespace) -> None:
    share = QUICK_SHARE if asked.quick else 1
    with ground.made() as variables:
        begun = monotonic()
        made = Made(DEVICES // share, READINGS // share, EVENTS // share)
        made.fill(variables)
        say(f"  made in {monotonic() - begun:.0f} s")
        with servers.running("pages", variables, asked.workers, asked.threads) as server:
            found = {}
            for name, path in made.addresses().items():
                made.happen()
                found[name] = asked_for(server.url, path)
    facts = {**machine.facts(asked, ""), "pages": found, "made": made.counts()}
    path = ground.VAR / "pages.json"
    path.write_text(report.as_json(facts))
    say(f"\nWritten to {path.relative_to(ground.ROOT)}")


class Made:
    """What there is to look at."""

    def __init__(self, devices: int, readings: int, events: int) -> None:
        self.devices, self.readings, self.events = devices, readings, events
        self.now = datetime.now(UTC)
        self.random = random.Random(42)

    def counts(self) -> dict[str, int]:
        return {"devices": self.devices, "readings": self.readings, "events": self.events}

    def fill(self, variables: dict[str, str]) -> None:
        from django.core.management import call_command
        from django.db import connection
        from django.db.models import F
        from django.db.models.functions import Mod

        from accounts.models import User
        from devices.models import Device, DeviceGroup
        from events import sinks
        from events.models import EventLog

        User.objects.create_superuser("staff", "staff@example.org", PASSWORD)
        call_command("seed", users=OWNERS, devices=self.devices, readings=self.readings)
        turn = Mod(F("pk"), 97)
        Device.objects.alias(turn=turn).filter(turn=0).update(status=Device.Status.INACTIVE)
        for n in range(1, 10):  # of ten, nine were heard of, at different times
            silent = timedelta(seconds=self.random.expovariate(1 / 86_400))
            some = Device.objects.alias(turn=Mod(F("pk"), 10)).filter(turn=n)
            some.update(last_seen=self.now - silent)
        self.group = DeviceGroup.objects.order_by("pk")[0]
        speaking = list(self.group.devices.order_by("pk")[:SPEAKING])
        self.device = speaking[0]
        end = int(self.now.timestamp() * 1000) - 60_000
        histories = [History(self.device.pk, self.device.owner_id, HISTORY, 60_000, end)]
        filling.fill(histories, variables, "A long history")
        with sinks.guarded(seconds=60):
            made = EventLog.objects.count()
        self.now = datetime.now(UTC)
        for some in self._events(speaking, self.events - made - FRESH):
            sinks.deliver(some, seconds=60)
            self.event = some[0]["id"]
        self.speaking = speaking
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    def happen(self) -> None:
        """The newest events, one a second until now: the log of a system that is in use."""
        from events import sinks

        self.now = datetime.now(UTC)
        [some] = self._events(self.speaking, FRESH, timedelta(seconds=FRESH))
        sinks.deliver(some, seconds=60)

    def _events(
        self, devices: list[Any], wanted: int, span: timedelta = timedelta(days=EVENT_DAYS)
    ) -> Iterator[list[dict[str, Any]]]:
        from events.kinds import Kind, Severity

        step = span / wanted
        for first in range(0, wanted, CHUNK):
            yield [
                {
                    "id": str(uuid4()),
                    "time": (self.now - number * step).isoformat(),
                    "kind": Kind.values[number % len(Kind.values)],
                    "severity": Severity.values[number % 100 // 98],
                    "message": f"Something happened ({number})",
                    "actor": f"user:owner{number % OWNERS}",
                    "user_id": devices[0].owner_id,
                    "device_id": devices[number % len(devices)].pk,
                    "address": f"192.0.2.{number % 250}",
                    "request_id": f"r{number}",
                    "payload": {"number": number},
                    "expires_at": (self.now + timedelta(days=90)).isoformat(),
                }
                for number in range(first, min(first + CHUNK, wanted))
            ]

    def addresses(self) -> dict[str, str]:
        devices, events = "/admin/devices/device/", "/admin/events/eventlog/"
        page = self.devices // 200  # 500 of 100,000 devices
        last = (self.now - timedelta(days=EVENT_DAYS) + timedelta(minutes=5)).isoformat()
        return {
            "dashboard": "/admin/",
            "dashboard, refreshed": "/admin/dashboard/",
            "devices": devices,
            "devices, filtered": f"{devices}?status__exact=inactive&device_type=gateway",
            "devices, searched": f"{devices}?q=Kitchen+77",
            f"devices, page {page}": f"{devices}?p={page}",
            "a device": f"{devices}{self.device.pk}/overview/",
            "its telemetry": f"{devices}{self.device.pk}/telemetry/",
            "its events": f"{devices}{self.device.pk}/events/",
            "a user": f"/admin/accounts/user/{self.device.owner_id}/overview/",
            "a group's latest values": f"/admin/devices/devicegroup/{self.group.pk}/latest/",
            "events": events,
            "events, filtered": f"{events}?kind=device.changed&start_time=-30d",
            "events, a text": f"{events}?q=(77&start_time=-30d",
            "events, the last page": f"{events}?start_time=-60d&end_time={last[:19]}Z",
            "an event": f"{events}{self.event}/change/",
            "search": "/admin/search/?s=Kitchen+77&extended=1",
        }


def asked_for(url: str, path: str) -> dict[str, float]:
    """Its times in ms, logged in by the form; the first answer is not among them."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        form = client.get("/admin/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        if token is None:
            raise Failure("The log-in form has no token.")
        who = {"username": "staff", "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        client.post("/admin/login/", data=who, headers={"Referer": url})
        deadline = monotonic() + SETTLE_SECONDS  # stores are still busy with what they were given
        while not is_whole(client.get(path)) and monotonic() < deadline:
            sleep(1)
        times = []
        for _ in range(ROUNDS):
            begun = perf_counter()
            answer = client.get(path)
            times.append(1000 * (perf_counter() - begun))
            if not is_whole(answer):
                raise Failure(f"{path} answers {answer.status_code}: {answer.text[:300]}")
    found = {"p50": round(median(times), 1), "p95": round(quantiles(times, n=20)[-1], 1)}
    say(f"  {path[:70]:<72} p50 {found['p50']:>7.1f}  p95 {found['p95']:>7.1f} ms")
    return found


def is_whole(answer: httpx.Response) -> bool:
    """Whether it is the page, with what every store had to say."""
    return answer.status_code == 200 and AWAY not in answer.text
