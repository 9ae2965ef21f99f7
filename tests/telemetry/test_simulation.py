"""Simulated devices: their signals, how they post, and the tour."""

import asyncio
import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from django.core.management import CommandError

from devices.models import Device
from iotflow.lib.child import free_port
from telemetry import tour
from telemetry.fleet import Fleet, SimulatedDevice, client
from telemetry.simulation import DAY_MS, HOUR_MS, Sensor, grid
from telemetry.tour import Tour, TourFailed
from tests.telemetry.simulating import broken_off, simulate

DAY = 20_000 * DAY_MS


def course(sensor, start=DAY, hours=24):
    return [sensor.measure(start + hour * HOUR_MS) for hour in range(hours)]


def test_the_same_seed_measures_the_same():
    assert course(Sensor(1, 1)) == course(Sensor(1, 1))
    assert course(Sensor(1, 1)) != course(Sensor(2, 1))
    assert course(Sensor(1, 1)) != course(Sensor(1, 2))


def test_what_a_day_measures_does_not_depend_on_where_the_history_begins():
    long, short = Sensor(1, 1), Sensor(1, 1)
    course(long, DAY - DAY_MS)
    assert course(long) == course(short)


def test_afternoons_are_warmer_and_drier_than_nights():
    for number in range(20):
        days = course(Sensor(3, number), hours=24 * 20)
        night, afternoon = days[3::24], days[15::24]
        mean = [
            sum(value[name] for value in values) / len(values)
            for name in ("temperature", "humidity")
            for values in (night, afternoon)
        ]
        assert mean[0] < mean[1]
        assert mean[2] > mean[3]


def test_values_are_such_as_a_sensor_could_give():
    for number in range(20):
        for value in course(Sensor(4, number), hours=24 * 70):
            assert -10 < value["temperature"] < 45
            assert 5 <= value["humidity"] <= 100
            assert 20 <= value["battery"] <= 100


def test_a_battery_only_falls_until_it_is_charged():
    charges = [value["battery"] for value in course(Sensor(5, 1), hours=24 * 60)]
    assert sum(later > earlier for earlier, later in pairwise(charges)) == 1


def test_the_times_of_a_history_are_the_same_all_day():
    morning, evening = grid(DAY + 1, 2, 300), grid(DAY + DAY_MS - 1, 2, 300)
    assert list(morning) == list(evening)
    assert (morning[0], morning[-1], len(morning)) == (DAY - 2 * DAY_MS, DAY - 300_000, 576)


# --- Posting ------------------------------------------------------------------------------------
class Scripted(ThreadingHTTPServer):
    """Answers each POST with the next of its answers, and with the last one ever after."""

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.bodies = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        answers = self.server.answers
        status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        body = json.dumps({"error": "x", "message": "As scripted."}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted():
    servers = []

    def start(*answers):
        servers.append(Scripted(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def post(url, seconds, rate=10.0, devices=1):
    """What a fleet counts after that long."""

    async def run():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        async with client(url) as http:
            names = [SimulatedDevice(f"d{n}", f"key{n}") for n in range(devices)]
            fleet = Fleet(http, names, rate=rate, seed=1, stop=stop)
            await fleet.run()
            return fleet.counts

    return asyncio.run(run())


def test_devices_post_at_their_rate(scripted):
    counts = post(scripted((201, {})).url, 2.0, rate=10, devices=3)
    # A busy machine sends late, which may only mean fewer.
    assert 6 < counts.accepted <= 63
    assert (counts.refused, counts.retries) == (0, 0)


@pytest.mark.parametrize("status", [429, 503])
def test_a_message_is_tried_again_when_the_server_says_and_is_the_same(scripted, status):
    server = scripted((status, {"Retry-After": "1"}), (201, {}))
    started = time.monotonic()
    counts = post(server.url, 1.5, rate=0.5)
    assert (counts.messages, counts.accepted, counts.retries) == (1, 1, 1)
    assert server.bodies[0] == server.bodies[1]
    assert time.monotonic() - started > 1


def test_a_refused_message_is_not_tried_again(scripted):
    counts = post(scripted((401, {})).url, 0.7, rate=2)
    assert counts.refused == counts.messages == 2
    assert counts.last_refusal == "d0: 401: As scripted."


def test_a_server_that_goes_away_is_waited_for():
    counts = post(f"http://127.0.0.1:{free_port()}", 1.5)
    assert (counts.messages, counts.accepted) == (1, 0)
    assert counts.retries >= 1


def test_no_server_is_said_with_its_address():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(CommandError, match=f"No server answers at {url}"):
        simulate(url=url, duration=1)


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0},
        {"rate": float("nan")},
        {"devices": 0},
        {"duration": -1},
        {"url": "ftp://127.0.0.1"},
        {"username": "alone"},
    ],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(CommandError):
        simulate(**options)


def test_devices_register_and_post(live_server, tmp_path):
    keys = tmp_path / "keys.json"
    out = simulate(url=live_server.url, devices=2, rate=5, duration=1.5, keys=keys)
    assert " 0 refused" in out
    names = ["Simulated 001", "Simulated 002"]
    devices = Device.objects.filter(device_type="simulator").order_by("id")
    assert [device.name for device in devices] == names
    assert oct(keys.stat().st_mode)[-3:] == "600"


def test_kept_keys_are_used_again_and_nothing_is_registered(live_server, tmp_path):
    options = {"url": live_server.url, "devices": 1, "rate": 5, "duration": 0.5}
    for _ in range(2):
        out = simulate(**options, keys=tmp_path / "keys.json")
    assert "are used again" in out
    assert " 0 refused" in out
    assert Device.objects.count() == 1


def test_a_name_that_is_taken_gets_a_suffix(live_server, alice):
    options = {"url": live_server.url, "devices": 1, "duration": 0.2}
    for _ in range(2):
        simulate(**options, username="alice", password="swordfish 17")
    first, second = Device.objects.order_by("id").values_list("name", flat=True)
    assert first == "Simulated 001"
    assert second.startswith("Simulated 001 ")


def test_sigterm_ends_it_with_a_summary(live_server):
    out = broken_off(signal.SIGTERM, 1, "--url", live_server.url, "--devices", "1")
    assert " 0 refused" in out


# --- The tour -----------------------------------------------------------------------------------
def test_the_tour_walks_ten_steps_and_sees_what_is_stored(live_server, monkeypatch):
    for name in ("SUBMISSIONS", "LATEST_READS", "HISTORY_READS"):
        monkeypatch.setattr(tour, name, 20)
    said = []
    closing = Tour(live_server.url, said.append).run()
    assert "All ten steps did what they should." in closing
    headings = [line for line in said if line.lstrip()[:2].rstrip(".").isdigit()]
    assert len(headings) == 10
    text = "\n".join(said)
    assert "in devices_device" in text
    assert "telemetry.submitted in event_logs" in text
    assert "p95" in text
    assert "not seen" not in text


def test_the_tour_names_the_step_that_failed(scripted):
    server = scripted((500, {}))
    with pytest.raises(TourFailed, match=r"Step 1, User registration, failed: .* 500"):
        Tour(server.url, lambda text: None).run()
