"""The event log as it is told while it grows."""

import pytest

from iotflow.lib.redis import key, redis
from tests.listening import Listening, once, submit

pytestmark = pytest.mark.timeout(60)
PATH = "/events/stream"


def kinds_told(one: Listening) -> list[str]:
    return [event.data["kind"] for event in one.events if event.kind == "event"]


def test_what_happens_to_ones_own_things_is_told_and_nothing_else(alice, bob, staff, make_device):
    with (
        Listening(PATH, alice.api) as of_alice,
        Listening(PATH, staff.api, kind="device.registered") as of_staff,
    ):
        make_device(bob, "other")
        own = make_device(alice, "own")
        submit(own, 1)
        of_alice.until(lambda: "telemetry.submitted" in kinds_told(of_alice))
        of_staff.until(lambda: len(kinds_told(of_staff)) == 2)
    assert kinds_told(of_alice) == ["device.registered", "telemetry.submitted"]
    assert {event.data["user_id"] for event in of_alice.events[:-1]} == {alice.user.pk}
    listed = alice.api.get("/events").json["events"]
    assert [event.data for event in of_alice.events[:-1]] == listed[::-1]


def test_who_comes_back_gets_what_happened_meanwhile(alice, make_device):
    with Listening(PATH, alice.api) as one:
        one.until(lambda: "-" in one.last_id)  # it has read the event log
        make_device(alice, "first")
        one.until(lambda: len(kinds_told(one)) == 1 and "-" in one.last_id)
    make_device(alice, "second")
    found = once(PATH, alice.api, one.last_id)
    assert [event.data.get("kind") for event in found] == ["device.registered", None]
    with redis() as client:
        client.delete(key("live", "events.-2-1"))
    gap, event, _ = once(PATH, alice.api, one.last_id)
    assert gap.kind == "gap"
    assert event.data == found[0].data


def test_where_others_acted_from_is_hidden_in_a_stream_too(alice, staff, sensor):
    with Listening(PATH, alice.api) as one:
        answer = staff.api.put(f"/admin/devices/{sensor.id}", {"location": "Attic"})
        assert answer.status == 200
        one.until(lambda: "device.changed" in kinds_told(one))
    assert one.events[0].data["address"] == ""


def test_a_user_who_is_staff_no_more_hears_no_more(staff):
    with Listening(PATH, staff.api) as one:
        staff.user.is_staff = False
        staff.user.save()
        one.until(lambda: bool(one.events) and one.events[-1].data == {"reason": "permission"}, 8)


def test_a_filter_that_is_none_is_refused(alice):
    answer = alice.api.get(PATH, kind="nothing")
    assert (answer.status, answer.fields()) == (400, {"kind"})
