"""Latest values in Redis: never half an answer, never an old one."""

import pytest

from iotflow.lib.redis import redis
from telemetry import latest
from telemetry.readings import Deletion, LatestValue
from telemetry.stores import telemetry_store

pytestmark = pytest.mark.real
PLACE = (1, 0)


def add(**values: tuple[int, int, object]) -> None:
    with redis() as client:
        latest.add_newest(client, {PLACE: {n: LatestValue(*v) for n, v in values.items()}})


def fill(**values: tuple[int, int, object]) -> None:
    latest._fill({PLACE: {n: LatestValue(*v) for n, v in values.items()}})


def cached() -> dict[str, object] | None:
    found = latest.cached([PLACE]).get(PLACE)
    return None if found is None else {name: value.value for name, value in found.items()}


def test_what_only_writes_have_made_is_not_believed():
    add(a=(5, 1, "new"))
    assert cached() is None


def test_a_fill_makes_it_complete():
    fill(a=(5, 1, 1.0), b=(5, 1, {"x": [":"]}))
    assert cached() == {"a": 1.0, "b": {"x": [":"]}}


def test_a_fill_does_not_undo_a_write_that_came_meanwhile():
    add(a=(9, 1, "newer"))
    fill(a=(5, 1, "read before"), b=(1, 1, "old"))
    assert cached() == {"a": "newer", "b": "old"}


def test_the_newest_by_event_time_stays_and_of_one_time_the_last_written():
    fill(a=(5, 10, "first"))
    for value, expected in (
        ((4, 99, "late"), "first"),
        ((5, 9, "written before"), "first"),
        ((5, 11, "corrected"), "corrected"),
        ((6, 1, "next"), "next"),
        ((-3, 100, "before 1970"), "next"),
    ):
        add(a=value)
        assert cached() == {"a": expected}


def test_a_device_with_nothing_is_remembered_as_such():
    fill()
    assert cached() == {}


def test_its_time_to_live_runs_from_the_first_write():
    add(a=(1, 1, 1))
    with redis() as client:
        client.expire("iotflow:latest:1:0", 100)
    add(a=(2, 2, 2))
    fill(a=(2, 2, 2))
    with redis() as client:
        assert client.ttl("iotflow:latest:1:0") <= 100


def test_a_deletion_moves_on_to_another_epoch(sensor):
    sensor.api.post("/telemetry", {"data": {"a": 1}})
    assert latest.latest(sensor.id, 0)["a"].value == 1
    telemetry_store().delete(Deletion(sensor.id, sensor.device.owner_id, 0, 2**42, 0, 1))
    assert latest.latest(sensor.id, 1) == {}
