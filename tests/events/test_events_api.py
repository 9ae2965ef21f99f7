"""The event log as staff and users read it."""

import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from events import log, sinks
from events.context import Origin
from events.kinds import Kind, Severity
from events.models import EventLog
from events.selectors import slices
from iotflow.lib.timeparse import EARLIEST, LATEST, now_ms, to_ms


def happened(
    kind=Kind.DEVICE_CHANGED, *, ago=0.0, time=None, address="", request_id="", **fields
) -> str:
    """An event straight in the log; its id."""
    event_id = uuid.uuid4()
    document = log.event(
        event_id,
        kind,
        fields.pop("message", "something"),
        actor=fields.pop("actor", "system"),
        time=time or timezone.now() - timedelta(seconds=ago),
        origin=Origin(address, request_id),
        **fields,
    )
    sinks.deliver([document])
    return str(event_id)


def ids(answer) -> list[str]:
    assert answer.status == 200, answer.text
    assert answer.json["count"] == len(answer.json["events"])
    return [event["id"] for event in answer.json["events"]]


class TestWhatIsThere:
    def test_an_event_tells_all_it_knows(self, staff):
        event_id = happened(
            Kind.DEVICE_STATUS_CHANGED,
            message="Device hall: active → inactive",
            actor="user:alice",
            user_id=3,
            device_id=4,
            severity=Severity.WARNING,
            payload={"before": "active", "after": ["inactive"]},
            time=datetime.now(UTC).replace(microsecond=123000),
            address="192.0.2.7",
            request_id="abc",
        )
        [event] = staff.api.get("/events").json["events"]
        assert event.pop("time").endswith(".123Z")
        assert event == {
            "id": event_id,
            "kind": "device.status_changed",
            "severity": "warning",
            "message": "Device hall: active → inactive",
            "actor": "user:alice",
            "user_id": 3,
            "device_id": 4,
            "address": "192.0.2.7",
            "request_id": "abc",
            "payload": {"before": "active", "after": ["inactive"]},
        }

    def test_newest_first_of_the_last_day(self, staff):
        old, new = happened(ago=86_000), happened(ago=1)
        happened(ago=87_000)
        assert ids(staff.api.get("/events")) == [new, old]

    def test_bounds_of_time_are_included(self, staff):
        moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
        first, second, third = (happened(time=moment + timedelta(hours=n)) for n in range(3))
        found = staff.api.get(
            "/events", start_time="2026-01-01T12:00:00Z", end_time="2026-01-01T13:00:00Z"
        )
        assert ids(found) == [second, first]
        assert ids(staff.api.get("/events", start_time="2026-01-01T14:00:00Z")) == [third]

    def test_without_an_end_what_a_clock_ahead_wrote_belongs_to_it(self, staff):
        ahead = happened(ago=-3600)
        assert ids(staff.api.get("/events")) == [ahead]
        assert ids(staff.api.get("/events", end_time="now")) == []
        soon = to_ms(timezone.now() + timedelta(minutes=5))
        assert ids(staff.api.get("/events", start_time=soon)) == [ahead]

    def test_filters(self, staff):
        one = happened(Kind.DEVICE_CHANGED, ago=3, device_id=1, user_id=7)
        two = happened(Kind.GROUP_CREATED, ago=2, device_id=2, user_id=7, request_id="r2")
        three = happened(Kind.USER_LOGIN_FAILED, ago=1, severity=Severity.WARNING, user_id=8)
        for query, expected in (
            ({}, [three, two, one]),
            ({"kind": "group.created"}, [two]),
            ({"kind": "group.created,device.changed"}, [two, one]),
            ({"kind": "group.created", "device_id": 1}, []),
            ({"severity": "warning"}, [three]),
            ({"device_id": 2}, [two]),
            ({"user_id": 7}, [two, one]),
            ({"user_id": 7, "kind": "device.changed", "severity": "info"}, [one]),
            ({"request_id": "r2"}, [two]),
            ({"device_id": 2**63 - 1}, []),
        ):
            assert ids(staff.api.get("/events", **query)) == expected, query

    @pytest.mark.parametrize(
        ("query", "wrong"),
        [
            ({"kind": "device.exploded"}, {"kind"}),
            ({"kind": "device.changed,x"}, {"kind"}),
            ({"severity": "fatal"}, {"severity"}),
            ({"device_id": "x"}, {"device_id"}),
            ({"device_id": 0}, {"device_id"}),
            ({"device_id": 2**63}, {"device_id"}),
            ({"device_id": "9" * 5000}, {"device_id"}),
            ({"user_id": "1.5"}, {"user_id"}),
            ({"request_id": "x" * 65}, {"request_id"}),
            ({"start_time": "yesterday"}, {"start_time"}),
            ({"end_time": "yesterday", "kind": "x"}, {"end_time", "kind"}),
            ({"start_time": "-1h", "end_time": "-2h"}, {"start_time"}),
            ({"start_time": "T" * 65}, {"start_time"}),
            ({"limit": 0}, {"limit"}),
            ({"limit": 1001}, {"limit"}),
            ({"cursor": "x"}, {"cursor"}),
            ({"cursor": "WzEsMiwzXQ"}, {"cursor"}),
            ({"cursor": "W3RydWUsMSwxLCJhIl0"}, {"cursor"}),
            ({"cursor": "é"}, {"cursor"}),
        ],
    )
    def test_a_bad_query_is_named(self, query, wrong, staff):
        answer = staff.api.get("/events", **query)
        assert (answer.status, answer.fields()) == (400, wrong)

    @pytest.mark.parametrize(
        "times", [("0001-01-01", "9999-12-31T23:59:59.999Z"), ("-99999w", "now")]
    )
    def test_any_time_may_be_asked_for(self, times, staff):
        event_id = happened(ago=5)
        found = staff.api.get("/events", start_time=times[0], end_time=times[1])
        assert ids(found) == [event_id]


class TestPages:
    def test_every_event_is_given_once_though_many_share_a_time(self, staff):
        moment = timezone.now().replace(microsecond=0) - timedelta(minutes=1)
        made = [happened(time=moment + timedelta(milliseconds=n // 5)) for n in range(23)]
        seen, cursor = [], ""
        while True:
            answer = staff.api.get("/events", limit=4, cursor=cursor)
            seen += ids(answer)
            happened()  # what comes while somebody pages changes nothing behind them
            cursor = answer.json["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 23
        assert set(seen) == set(made)
        times = [EventLog.objects.get(pk=event_id).time for event_id in seen]
        assert times == sorted(times, reverse=True)

    def test_a_last_page_that_is_just_full_has_no_next_one(self, staff):
        for n in range(4):
            happened(ago=n)
        assert staff.api.get("/events", limit=4).json["next_cursor"] is None

    def test_a_cursor_keeps_the_bounds_it_began_with(self, staff):
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        made = [happened(time=moment + timedelta(hours=n)) for n in range(5)]
        first = staff.api.get(
            "/events", start_time="2026-01-01T01:00:00Z", end_time="2026-01-01T03:00:00Z", limit=2
        )
        assert ids(first) == [made[3], made[2]]
        assert ids(staff.api.get("/events", cursor=first.json["next_cursor"])) == [made[1]]


class TestWhose:
    def test_users_see_what_is_about_them(self, alice, bob, staff, sensor):
        assert "device.registered" in [
            event["kind"] for event in alice.api.get("/events").json["events"]
        ]
        assert ids(bob.api.get("/events")) == []
        assert len(ids(staff.api.get("/events"))) == 1
        [event_id] = ids(alice.api.get("/events"))
        assert ids(alice.api.get("/events", device_id=sensor.id)) == [event_id]
        assert ids(bob.api.get("/events", device_id=sensor.id)) == []
        assert ids(bob.api.get("/events", user_id=alice.user.pk)) == []
        assert ids(staff.api.get("/events", user_id=alice.user.pk)) == [event_id]
        happened()  # about nobody
        assert ids(alice.api.get("/events")) == [event_id]

    def test_one_event(self, alice, bob, staff, sensor):
        [event] = alice.api.get("/events").json["events"]
        path = f"/events/{event['id']}"
        assert alice.api.get(path).json == {"status": "success", "event": event}
        assert staff.api.get(path).status == 200
        assert bob.api.get(path).status == 404
        assert staff.api.get(f"/events/{uuid.uuid4()}").status == 404
        assert staff.api.get("/events/1").status == 404

    def test_where_others_acted_from_is_for_staff(self, alice, staff):
        for actor in ("user:staff", "user:alice", "device:5", "anonymous"):
            happened(actor=actor, user_id=alice.user.pk, address="192.0.2.7")
        seen = {e["actor"]: e["address"] for e in alice.api.get("/events").json["events"]}
        assert seen == {
            "user:staff": "",
            "user:alice": "192.0.2.7",
            "device:5": "192.0.2.7",
            "anonymous": "",
        }
        assert {e["address"] for e in staff.api.get("/events").json["events"]} == {"192.0.2.7"}

    def test_it_is_for_those_who_logged_in(self, anybody, sensor):
        for path in ("/events", f"/events/{uuid.uuid4()}"):
            assert anybody.get(path).status == 401
            assert sensor.api.get(path).status == 401


class TestCost:
    def test_it_does_not_grow_with_the_number_of_events(self, staff, django_assert_num_queries):
        for _ in range(9):
            happened()
        # The token with its user; the events of the last second, which fill the page.
        with django_assert_num_queries(1), django_assert_num_queries(1, using="events"):
            assert len(ids(staff.api.get("/events", limit=5))) == 5
        # The last second, the 8 before it, 64, 512, 4096, 32768, and what is left of a day.
        with django_assert_num_queries(1), django_assert_num_queries(7, using="events"):
            assert len(ids(staff.api.get("/events"))) == 9

    def test_slices_of_time_meet_without_gap_or_overlap(self):
        now = now_ms()
        day_ago = now - 86_400_000
        for start, end in ((day_ago, LATEST), (EARLIEST, LATEST), (5, 5), (now + 9, LATEST)):
            parts = list(slices(start, end))
            assert len(parts) < 20
            assert (parts[0][1], parts[-1][0]) == (end, start)
            assert all(newer[0] - 1 == older[1] for newer, older in pairwise(parts))
            assert all(low <= high for low, high in parts)

    @pytest.mark.parametrize(
        "fields",
        [{}, {"kind": "device.changed"}, {"severity": "info"}, {"device_id": 1}, {"user_id": 1}],
    )
    def test_each_way_to_ask_has_its_index(self, fields, settings):
        for n in range(300):
            happened(ago=n, device_id=n % 9, user_id=n % 9)
        now = timezone.now()
        events = EventLog.objects.filter(**fields).between(now - timedelta(hours=1), now)
        plan = events.newest_first().older_than(now, uuid.uuid4())[:10].explain()
        if settings.EVENTS_EMBEDDED:
            assert "USING INDEX event_by_" in plan or "USING COVERING INDEX" in plan
            assert "SCAN" not in plan
            assert "TEMP B-TREE" not in plan
        else:
            assert "COLLSCAN" not in plan
