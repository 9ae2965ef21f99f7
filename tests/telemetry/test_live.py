"""Live streams: what listeners are told, by what comes in and by what they come back with."""

import asyncio
import itertools
import threading
from typing import Any
from unittest.mock import Mock

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Token
from devices import services
from devices.models import ApiKey, Device
from iotflow.lib.live import channels, hub, stream
from iotflow.lib.live.channels import News, Position
from iotflow.lib.live.places import places
from iotflow.lib.live.stream import SENT_MAX, Place, Sent, parse_place
from iotflow.lib.live.topics import Channel, Topic
from iotflow.lib.redis import key, redis
from tests.api import Api, Something
from tests.listening import Listening, lines, numbers, once, submit

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def often(settings: Any) -> None:
    settings.STREAM_CHECK_SECONDS = 1


def path_of(sensor: Something) -> str:
    return f"/telemetry/{sensor.id}/stream"


def lost(sensor: Something) -> None:
    """Redis has nothing of it any more."""
    with redis() as client:
        client.delete(key("live", f"device.{sensor.id}"))


# --- What is told -------------------------------------------------------------------------------
def test_a_reading_is_told_as_it_was_stored(sensor):
    submit(sensor, 0)
    with Listening(path_of(sensor), sensor.api) as one:
        body = {"data": {"b": True, "a": 1.5, "n": 7}, "metadata": {"of": "x"}}
        time_of_it = sensor.api.post("/telemetry", body).json["timestamp"]
        one.until(lambda: "reading" in one.kinds())
    assert one.events[0].data == {
        "device_id": sensor.id,
        "timestamp": time_of_it,
        "measurements": {"a": 1.5, "b": True, "n": 7},
        "metadata": {"of": "x"},
    }
    assert one.events[-1].kind == "end"


def test_late_readings_and_batches_are_told_in_the_order_they_came(sensor):
    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1)
        submit(sensor, 2, at="-1h")
        readings = [{"data": {"n": n}, "timestamp": f"-{60 - n}s"} for n in range(3, 40)]
        assert sensor.api.post("/telemetry/batch", {"readings": readings}).status == 201
        one.until(lambda: len(one.told()) >= 39)
    assert one.told() == list(range(1, 40))


def test_nothing_is_told_of_another_device(sensor, make_device, alice):
    other = make_device(alice)
    with Listening(path_of(sensor), sensor.api) as one:
        submit(other, 1)
        submit(sensor, 2)
        one.until(lambda: bool(one.told()))
    assert one.told() == [2]


def test_nobody_listens_and_nothing_is_written(sensor):
    submit(sensor, 1, 2)
    with redis() as client:
        assert list(client.scan_iter(match=key("live*"))) == []


def test_a_group_tells_of_its_devices_and_follows_who_joins_and_leaves(alice, sensor, make_device):
    other = make_device(alice)
    group = services.create_group(owner=alice.user, fields={"name": "all"}, actor="test")
    services.add_to_group(group=group, device=sensor.device, actor="test")
    with Listening(f"/groups/{group.pk}/stream", alice.api) as one:
        submit(other, 1)
        submit(sensor, 2)
        one.until(lambda: one.told() == [2])
        services.add_to_group(group=group, device=other.device, actor="test")
        services.remove_all_from_group(group=group, device_ids=[sensor.id], actor="test")

        def follows() -> bool:
            submit(other, 3)
            return 3 in one.told()

        one.until(follows)
        submit(sensor, 4)
        submit(other, 5)
        one.until(lambda: 5 in one.told())
    assert 4 not in one.told()
    assert 1 not in one.told()


def test_a_sign_of_life_comes_where_nothing_else_does(sensor, settings):
    settings.STREAM_HEARTBEAT_SECONDS = 1
    with Listening(path_of(sensor), sensor.api) as one:
        one.until(lambda: "heartbeat" in one._reader.comments)
    assert one.kinds() == ["end"]


def test_a_stream_ends_after_its_seconds(sensor):
    with Listening(path_of(sensor), sensor.api, seconds=1) as one:
        one.until(lambda: bool(one.events), 5)
    assert one.events[0].data == {"reason": "time"}


# --- Coming back --------------------------------------------------------------------------------
def test_who_comes_back_gets_what_came_meanwhile_and_late_readings_too(sensor):
    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1, 2)
        one.until(lambda: one.told() == [1, 2])
        second = one.events[0].id
    submit(sensor, 3)
    submit(sensor, 4, at="-2h")
    found = once(path_of(sensor), sensor.api, one.last_id)
    assert [event.kind for event in found] == ["reading", "reading", "end"]
    assert numbers(found) == [3, 4]
    assert numbers(once(path_of(sensor), sensor.api, second)) == [2, 3, 4]


def test_who_heard_nothing_yet_has_a_place_to_come_back_to(sensor):
    submit(sensor, 1)
    with Listening(path_of(sensor), sensor.api) as one:
        pass
    submit(sensor, 2)
    assert numbers(once(path_of(sensor), sensor.api, one.last_id)) == [2]


def test_what_redis_has_lost_comes_from_the_store(sensor):
    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1)
        one.until(lambda: one.told() == [1])
    submit(sensor, 2)
    lost(sensor)
    submit(sensor, *range(3, 10))
    found = once(path_of(sensor), sensor.api, one.last_id)
    assert numbers(found) == list(range(2, 10))
    assert found[0].kind == "gap"
    assert found[0].data["filled"] is True
    submit(sensor, 10)
    found = once(path_of(sensor), sensor.api, found[-1].id)
    assert [event.kind for event in found] == ["gap", "reading", "end"]
    assert numbers(found) == [10]


def test_what_was_read_from_the_store_does_not_come_again_by_the_channel(sensor, monkeypatch):
    """Also to one who breaks off between the two: what is known of it ends with the connection."""
    from telemetry import live

    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1)
        one.until(lambda: one.told() == [1])
    lost(sensor)
    held: list[Any] = []
    tell = live.tell
    with monkeypatch.context() as patch:
        patch.setattr(live, "tell", lambda *told: held.append(told))
        submit(sensor, 2)
    with Listening(path_of(sensor), sensor.api, one.last_id) as again:
        again.until(lambda: again.told() == [2])
        found = once(path_of(sensor), sensor.api, one.last_id)
        for told in held:
            tell(*told)
        submit(sensor, 3)
        again.until(lambda: 3 in again.told())
    assert again.told() == [2, 3]
    assert numbers(found) == [2]
    assert numbers(once(path_of(sensor), sensor.api, found[-1].id)) == [3]


def test_the_place_is_one_in_the_channel_again_when_what_was_read_is_forgotten(
    sensor, monkeypatch, settings
):
    monkeypatch.setattr(stream, "LATE_SECONDS", 0.5)
    settings.STREAM_HEARTBEAT_SECONDS = 1
    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1)
        one.until(lambda: one.told() == [1])
    lost(sensor)
    submit(sensor, 2)
    with Listening(path_of(sensor), sensor.api, one.last_id) as again:
        again.until(lambda: again.told() == [2])
        assert "-" not in again.last_id
        again.until(lambda: "-" in again.last_id)
    submit(sensor, 3)
    submit(sensor, 4, at="-3h")
    assert numbers(once(path_of(sensor), sensor.api, again.last_id)) == [3, 4]


def test_more_than_redis_keeps_comes_from_the_store_once(sensor, settings):
    settings.STREAM_KEPT = 10
    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 0)
        one.until(lambda: one.told() == [0])
    for part in range(3):
        readings = [{"data": {"n": n}} for n in range(1 + 700 * part, 701 + 700 * part)]
        assert sensor.api.post("/telemetry/batch", {"readings": readings}).status == 201
    assert numbers(once(path_of(sensor), sensor.api, one.last_id)) == list(range(1, 2101))


def test_a_listener_stays_while_redis_loses_its_channel(sensor, monkeypatch):
    monkeypatch.setattr(hub, "LISTEN_SECONDS", 0.2)
    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1)
        one.until(lambda: one.told() == [1])
        lost(sensor)
        submit(sensor, 2, 3)
        one.until(lambda: one.told() == [1, 2, 3])
        submit(sensor, 4)
        one.until(lambda: one.told() == [1, 2, 3, 4])
    assert one.kinds().count("gap") == 1


def test_what_a_writer_could_not_tell_is_read_from_the_store(sensor, monkeypatch):
    """Its readings are stored, and Redis hears later that some are missing."""
    from iotflow.lib.errors import StoreAway
    from telemetry import live

    with Listening(path_of(sensor), sensor.api) as one:
        submit(sensor, 1)
        one.until(lambda: one.told() == [1])

        def away(*_: Any) -> None:
            raise StoreAway("Redis")

        with monkeypatch.context() as patch:
            patch.setattr(live, "tell", away)
            submit(sensor, 2)
        submit(sensor, 3)
        one.until(lambda: one.told() == [1, 2, 3])
        submit(sensor, 4)
        one.until(lambda: one.told() == [1, 2, 3, 4])
    assert one.kinds().count("gap") == 1


def test_a_group_says_what_it_cannot_tell_any_more(alice, sensor):
    group = services.create_group(owner=alice.user, fields={"name": "all"}, actor="test")
    services.add_to_group(group=group, device=sensor.device, actor="test")
    path = f"/groups/{group.pk}/stream"
    with Listening(path, alice.api) as one:
        submit(sensor, 1)
        one.until(lambda: one.told() == [1])
    submit(sensor, 2)
    assert numbers(once(path, alice.api, one.last_id)) == [2]
    with redis() as client:
        client.delete(key("live", f"group.{group.pk}"))
    [gap, end] = once(path, alice.api, one.last_id)
    assert (gap.kind, gap.data["filled"], end.kind) == ("gap", False, "end")


def test_a_time_is_a_place_too(sensor):
    stamps = [sensor.api.post("/telemetry", {"data": {"n": n}}).json for n in range(3)]
    from iotflow.lib.timeparse import parse_ms

    first = parse_ms(stamps[0]["timestamp"], 0)
    assert numbers(once(path_of(sensor), sensor.api, str(first))) == [1, 2]


@pytest.mark.parametrize(
    "bad", ["x", "1-2", "1-2.x", "1.2.3", "9" * 400, "-1-2.3", "1-2.999999999999999999", "²"]
)
def test_what_is_no_place_is_refused(sensor, bad):
    answer = sensor.api.get(path_of(sensor), last_event_id=bad)
    assert (answer.status, answer.fields()) == (400, {"last_event_id"})


# --- Who may ------------------------------------------------------------------------------------
def ended(one: Listening) -> bool:
    return bool(one.events) and one.events[-1].data == {"reason": "permission"}


def test_a_revoked_key_ends_the_stream(sensor):
    with Listening(path_of(sensor), sensor.api) as one:
        ApiKey.objects.filter(device=sensor.device).update(revoked_at=timezone.now())
        one.until(lambda: ended(one), 5)


@pytest.mark.parametrize("how", ["log out", "expired", "deactivated", "deleted", "given away"])
def test_what_ends_the_permission_ends_the_stream(how, alice, bob, sensor):
    with Listening(path_of(sensor), alice.api) as one:
        match how:
            case "log out":
                assert alice.api.post("/auth/logout").status == 200
            case "expired":
                Token.objects.filter(user=alice.user).update(expiry=timezone.now())
            case "deactivated":
                alice.user.is_active = False
                alice.user.save()
            case "deleted":
                assert alice.api.delete(f"/devices/{sensor.id}").status == 200
            case "given away":
                Device.objects.filter(pk=sensor.id).update(owner=bob.user)
        one.until(lambda: ended(one), 5)


def test_staffs_session_listens_until_it_ends(staff, sensor):
    browser = Client()
    browser.force_login(staff.user)
    one = Listening(path_of(sensor), Api())
    answer = browser.get(
        f"/api/v1{path_of(sensor)}", {"seconds": 20}, HTTP_ACCEPT="text/event-stream"
    )
    assert answer.status_code == 200
    told = one._reader.parsed(lines(answer))
    reading = threading.Thread(target=lambda: one.events.extend(told), daemon=True)
    reading.start()
    browser.logout()
    one.until(lambda: ended(one), 6)
    reading.join(10)  # to its end, at which the client closes it
    assert not reading.is_alive()


def test_errors_are_json_whatever_is_accepted(anybody, sensor):
    answer = Client().get(f"/api/v1{path_of(sensor)}", HTTP_ACCEPT="text/event-stream")
    assert answer.status_code == 401
    assert answer.json()["error"] == "not_authenticated"


def test_one_may_have_so_many_streams_and_no_more(sensor, settings):
    settings.STREAMS_EACH = 1
    with Listening(path_of(sensor), sensor.api):
        answer = sensor.api.get(path_of(sensor), seconds=0)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
    assert len(places) == 0
    assert sensor.api.get(path_of(sensor), seconds=0).status == 200


def test_a_process_of_pages_has_a_few_streams(sensor, settings):
    settings.STREAMS_IN_THREADS = 0
    assert sensor.api.get(path_of(sensor), seconds=0).status == 429


# --- The parts ----------------------------------------------------------------------------------
def test_a_place_is_read_as_it_is_written():
    for place in (Place(Position(17, 4), 12), Place(None, -5)):
        assert parse_place(str(place)) == place


def test_what_was_sent_is_known_by_time_and_content():
    sent = Sent()
    assert not sent
    sent.add([(4, b"x"), (4, b"y"), *((n, b"z") for n in range(5, SENT_MAX))])
    assert sent
    assert (4, b"x") in sent
    assert (4, b"y") in sent
    assert (4, b"z") not in sent
    assert (5, b"x") not in sent
    sent.add((n, b"z") for n in range(SENT_MAX, 2 * SENT_MAX))
    assert (4, b"x") not in sent


def test_channels_number_their_entries_and_forget_names_that_nobody_has():
    first = channels.listen("a", [7])
    with redis() as client:
        channels.tell(client, [News(7, n, b"{}") for n in range(1, 1200)])
        channels.tell(client, [News(7, 0, b"x" * (channels.BODY_MAX + 1))])
    last = channels.listen("a", [7])
    assert last == Position(first.born, first.number + 1200)
    [large] = channels.between("a", Position(last.born, last.number - 1), last, 10)
    assert large.body == b""
    with redis() as client:
        client.delete(key("live", "a"))
        channels.tell(client, [News(7, 1, b"{}")])
        assert client.hgetall(key("live")) == {}
        assert not client.exists(key("live", "a"))
    assert channels.listen("a", [7]).born != first.born


def test_two_channels_hear_of_one_subject():
    a, b = channels.listen("a", [1, 2]), channels.listen("b", [2])
    with redis() as client:
        channels.tell(client, [News(1, 1, b"{}"), News(2, 2, b"{}")])
    found = channels.newer({"a": a, "b": b}, 10)
    assert [entry.subject for entry in found["a"]] == [1, 2]
    assert [entry.subject for entry in found["b"]] == [2]
    assert list(itertools.chain(*channels.newer({"a": found["a"][-1].position}, 10).values())) == []


def test_what_redis_said_of_a_channel_is_not_for_the_one_opened_since(monkeypatch):
    topic = Topic("a", frozenset({7}))

    async def positions() -> tuple[Any, Any]:
        ours = hub.Hub()
        for task in ours._tasks:
            task.cancel()
        ask = ours.in_thread
        before = await ours.join(topic, Mock())

        async def slowly(*call: Any) -> Any:
            said = await ask(*call)
            monkeypatch.setattr(ours, "in_thread", ask)
            for reader in list(before.readers):
                ours.leave(before, reader)
            with redis() as client:
                channels.tell(client, [News(7, 1, b"{}")])
            opened.append(await ours.join(topic, Mock()))
            return said

        opened: list[Channel] = []
        monkeypatch.setattr(ours, "in_thread", slowly)
        await ours._listen()
        return before.position, opened[0].position

    before, since = asyncio.run(positions())
    assert since == Position(before.born, before.number + 1)
