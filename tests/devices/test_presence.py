"""When a device is online, what is kept of it, and that no outage invents or hides a change."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from devices import presence, presence_history, silence
from devices.key_cache import record_of
from devices.models import Device, PresenceChange, ReportingInterval
from events.models import EventLog
from iotflow.lib.redis import redis
from iotflow.lib.timeparse import to_ms

START = datetime(2026, 3, 1, tzinfo=UTC)
SILENCE = 15  # seconds that the devices here may be silent
Changes = list[tuple[float, bool]]


class Clock:
    """The time of the worker, in seconds since START."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return to_ms(moment(self.seconds))


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(presence_history, "now_ms", clock.now_ms)
    return clock


@pytest.fixture
def pump(alice, make_device) -> Device:
    """A device that is to be heard every 10 s, and may be 5 s late."""
    return make_device(alice, "pump", expected_interval=10, grace=5).device


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def hear(device: Device, *seconds: float) -> None:
    """As a process hears it; Redis is there."""
    for at in seconds:
        with redis() as client, client.pipeline(transaction=False) as pipe:
            presence.add_touches(pipe, [record_of(device)], to_ms(moment(at)))
            pipe.execute()


def hear_apart(device: Device, seconds: float) -> None:
    """As the database learns of it while Redis is away."""
    until = moment(seconds + SILENCE)
    Device.objects.filter(pk=device.pk).update(last_seen=moment(seconds), online_until=until)


def settle() -> None:
    while presence_history.settle():
        pass


def changes(device: Device) -> Changes:
    rows = device.presence_changes.order_by("at").values_list("at", "is_online")
    return [((at - START).total_seconds(), state) for at, state in rows]


def reference(heard: list[float], now: float) -> Changes:
    """What changes, from all times at which it was heard, in order; no two in one ms."""
    found: Changes = []
    for at, following in zip(heard, [*heard[1:], now], strict=True):
        if not found or not found[-1][1]:
            found.append((round(max([at, *(last + 0.001 for last, _ in found[-1:])]), 3), True))
        if at + SILENCE <= following:
            found.append((at + SILENCE, False))
    return found


class TestChanges:
    def test_it_comes_online_when_it_is_heard_and_goes_when_its_silence_has_lasted(
        self, clock, pump
    ):
        hear(pump, 0)
        clock.seconds = 14.9
        settle()
        assert changes(pump) == [(0, True)]
        clock.seconds = 15
        settle()
        assert changes(pump) == [(0, True), (15, False)]
        events = EventLog.objects.filter(device_id=pump.pk, kind__startswith="device.")
        told = events.exclude(kind="device.registered").values_list("kind", "severity", "payload")
        assert sorted(told, key=lambda row: row[2]["at"]) == [
            ("device.came_online", "info", {"at": "2026-03-01T00:00:00.000Z"}),
            ("device.went_offline", "warning", {"at": "2026-03-01T00:00:15.000Z"}),
        ]

    def test_who_speaks_steadily_changes_once(self, clock, pump):
        hear(pump, *range(0, 200, 10))
        clock.seconds = 200
        settle()
        assert changes(pump) == [(0, True)]

    def test_what_was_while_no_worker_ran_is_noted_with_its_times(self, clock, pump):
        hear(pump, 0, 100, 110)
        clock.seconds = 300
        settle()
        assert changes(pump) == [(0, True), (15, False), (100, True), (125, False)]

    @pytest.mark.parametrize("seed", range(8))
    def test_any_course_is_that_of_a_plain_reference(self, clock, pump, monkeypatch, seed):
        monkeypatch.setattr(presence_history, "AT_ONCE", 3)
        chance, heard = random.Random(seed), []
        for _ in range(40):
            clock.seconds += chance.choice([0.5, 3, 10, 14.75, 15, 16, 40])
            if chance.random() < 0.6:
                hear(pump, clock.seconds)
                heard.append(clock.seconds)
            if chance.random() < 0.4:
                settle()
        clock.seconds += 1
        settle()
        assert changes(pump) == reference(heard, clock.seconds)

    def test_what_is_carried_twice_counts_once(self, clock, pump):
        hear(pump, 0, 100)
        with redis() as client:
            entries = client.xrange(presence.flips_key())
        presence_history._carry([presence_history.Flip.of(*entry) for entry in entries])
        assert changes(pump) == [(0, True), (15, False), (100, True)]
        clock.seconds = 101
        settle()  # as after a worker that was killed before it had deleted them
        assert changes(pump) == [(0, True), (15, False), (100, True)]
        with redis() as client:
            assert client.xlen(presence.flips_key()) == 0

    def test_a_device_that_is_deleted_meanwhile_is_passed_over(self, clock, pump, alice):
        hear(pump, 0)
        alice.api.delete(f"/devices/{pump.pk}")
        clock.seconds = 100
        settle()
        assert not PresenceChange.objects.exists()


class TestOutages:
    def test_who_was_heard_while_redis_was_away_stays_online(self, clock, pump):
        hear(pump, 0)
        hear_apart(pump, 50)
        hear(pump, 60)
        clock.seconds = 61
        settle()
        assert changes(pump) == [(0, True)]

    def test_who_was_not_heard_long_enough_was_offline_from_when_that_ended(self, clock, pump):
        hear(pump, 0)
        hear_apart(pump, 50)
        hear(pump, 100)
        clock.seconds = 101
        settle()
        assert changes(pump) == [(0, True), (65, False), (100, True)]

    def test_its_deadline_is_put_back_where_it_was_heard_just_now(self, clock, pump):
        hear(pump, 0)
        now = (timezone.now() - START).total_seconds()
        hear_apart(pump, now)
        clock.seconds = now
        settle()
        assert changes(pump) == [(0, True)]
        clock.seconds = now + SILENCE + 1
        settle()
        assert len(changes(pump)) == 1  # the database says that it is there still

    def test_what_the_flush_wrote_is_not_taken_for_having_been_heard_apart(self, clock, pump):
        hear(pump, 0, 100)
        presence.flush()
        clock.seconds = 101
        settle()
        assert changes(pump) == [(0, True), (15, False), (100, True)]

    def test_a_redis_that_begins_anew_is_told_who_was_online(self, clock, pump):
        hear(pump, 0)
        settle()
        presence.flush()
        with redis() as client:
            client.flushdb()
        clock.seconds = 20
        settle()
        assert changes(pump) == [(0, True), (15, False)]


class TestSilence:
    def test_without_an_interval_the_setting_counts(self, settings):
        settings.ONLINE_SECONDS = 77
        assert silence.allowed("sensor", silence.NONE) == 77

    @pytest.mark.parametrize(
        ("own", "seconds"),
        [
            ((None, None), 110),  # of the type: 100 and 10
            ((20, None), 30),
            ((20, 0), 20),
            ((None, 1), 101),
        ],
    )
    def test_what_a_device_has_of_its_own_counts_before_its_types(self, own, seconds):
        silence.types.put({"meter": silence.Expectation(100, 10)})
        assert silence.allowed("meter", silence.Expectation(*own)) == seconds

    def test_without_a_grace_it_is_as_long_again(self):
        assert silence.allowed("sensor", silence.Expectation(20, None)) == 40

    def test_a_types_interval_is_set_in_the_admin_site_and_known_at_once(self, client, staff):
        client.force_login(staff.user)
        page = "/admin/devices/reportinginterval/"
        answer = client.post(
            f"{page}add/", {"device_type": "meter", "expected_interval": 3600, "grace": ""}
        )
        assert answer.status_code == 302
        assert silence.allowed("meter", silence.NONE) == 7200
        pk = ReportingInterval.objects.get().pk
        client.post(f"{page}{pk}/delete/", {"post": "yes"})
        assert silence.allowed("meter", silence.NONE) == 300

    def test_the_interval_of_a_device_holds_from_its_next_message(self, alice, sensor):
        path = f"/devices/{sensor.id}"
        assert alice.api.put(path, {"expected_interval": 60, "grace": 30}).status == 200
        sensor.api.post("/devices/heartbeat")
        answer = alice.api.get(f"{path}/presence").json
        assert (answer["allowed_silence"], answer["is_online"]) == (90, True)
        with redis() as client:
            seen, until = (
                client.zscore(key, sensor.id)
                for key in (presence.online_key(), presence.deadlines_key())
            )
        assert until - seen == 90_000

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"expected_interval": 0}, {"expected_interval"}),
            ({"expected_interval": "often"}, {"expected_interval"}),
            ({"grace": -1, "expected_interval": 10**10}, {"grace", "expected_interval"}),
        ],
    )
    def test_a_bad_one_is_named(self, alice, sensor, fields, wrong):
        answer = alice.api.put(f"/devices/{sensor.id}", fields)
        assert (answer.status, answer.fields()) == (400, wrong)


def test_readings_of_yesterday_make_nobody_online_yesterday(alice, sensor):
    before = timezone.now()
    old = (before - timedelta(days=1)).isoformat()
    assert sensor.api.post("/telemetry", {"data": {"a": 1}, "timestamp": old}).status == 201
    settle()
    (change,) = sensor.device.presence_changes.all()
    assert change.at >= before - timedelta(seconds=1)


def test_what_the_database_learns_while_redis_is_away_is_believed(alice, sensor):
    record = record_of(Device.objects.select_related("owner").get())
    presence.save_touches([record])
    device = Device.objects.get()
    assert device.online_until - device.last_seen == timedelta(seconds=300)
    assert presence.presence(device).is_online
    Device.objects.update(online_until=timezone.now())
    assert not presence.presence(Device.objects.get()).is_online


class TestUptime:
    def change(self, device: Device, seconds: float, is_online: bool) -> None:
        PresenceChange.objects.create(
            device=device, at=moment(seconds), is_online=is_online, place=int(seconds * 1000)
        )

    @pytest.fixture
    def course(self, sensor) -> Device:
        for seconds, state in ((100, True), (400, False), (500, True), (900, False)):
            self.change(sensor.device, seconds, state)
        return sensor.device

    def ask(self, who, device: Device, start: float, end: float, **query):
        times = {"start_time": moment(start).isoformat(), "end_time": moment(end).isoformat()}
        return who.api.get(f"/devices/{device.pk}/presence", **times, **query)

    @pytest.mark.parametrize(
        ("start", "end", "online", "offline", "count"),
        [
            (0, 1000, 700, 200, 4),  # the first 100 s are not known
            (200, 450, 200, 50, 1),
            (100, 400, 300, 0, 1),
            (410, 490, 0, 80, 0),
            (0, 50, 0, 0, 0),
        ],
    )
    def test_it_is_what_is_known_of_the_range(
        self, alice, course, start, end, online, offline, count
    ):
        answer = self.ask(alice, course, start, end).json
        assert (answer["online_seconds"], answer["offline_seconds"]) == (online, offline)
        known = online + offline
        assert answer["uptime"] == (pytest.approx(online / known) if known else None)
        assert answer["total_changes"] == count

    def test_what_is_to_come_is_not_counted(self, alice, sensor):
        an_hour_ago = timezone.now() - timedelta(hours=1)
        PresenceChange.objects.create(device=sensor.device, at=an_hour_ago, is_online=True, place=1)
        tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
        answer = alice.api.get(
            f"/devices/{sensor.id}/presence", start_time="-2h", end_time=tomorrow
        )
        assert answer.json["online_seconds"] == pytest.approx(3600, abs=60)

    def test_changes_come_newest_first_and_no_more_than_asked_for(self, alice, course):
        answer = self.ask(alice, course, 0, 1000, limit=2).json
        assert [change["is_online"] for change in answer["changes"]] == [False, True]
        assert answer["truncated"] is True

    def test_it_is_for_its_owner_and_staff(self, alice, bob, staff, course):
        assert self.ask(staff, course, 0, 1000).status == 200
        assert self.ask(bob, course, 0, 1000).status == 404

    def test_a_bad_range_is_named(self, alice, course):
        answer = alice.api.get(f"/devices/{course.pk}/presence", start_time="soon")
        assert (answer.status, answer.fields()) == (400, {"start_time"})

    def test_what_is_dropped_leaves_what_still_holds(self, course, settings):
        settings.PRESENCE_RETENTION_DAYS = 1
        presence_history.purge(moment(600) + timedelta(days=1))
        assert changes(course) == [(500, True), (900, False)]


def test_the_page_of_a_device_says_how_long_it_was_online(client, staff, sensor):
    now = timezone.now()
    for hours, state in ((40, True), (10, False)):
        PresenceChange.objects.create(
            device=sensor.device, at=now - timedelta(hours=hours), is_online=state, place=-hours
        )
    client.force_login(staff.user)
    page = client.get(f"/admin/devices/device/{sensor.id}/overview/").content.decode()
    assert "75.0 %" in page
