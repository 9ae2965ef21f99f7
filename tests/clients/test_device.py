"""The client against a live server: what a device and a user do on a good day."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from iotflow_client import (
    Conflict,
    Device,
    NotAuthenticated,
    NotFound,
    Reading,
    User,
    ValidationFailed,
    telemetry,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG_AGO = "2000-01-01T00:00:00Z"


def test_what_is_submitted_comes_back_as_it_was(device):
    data = {"t": 21.5, "n": 3, "on": True, "text": "ü", "list": [1, 2.5], "object": {"a": "b"}}
    answer = device.submit(data, NOON, {"sensor": "top"})
    assert (answer.device_id, answer.timestamp) == (device.id, NOON)
    [reading] = device.history(LONG_AGO)
    assert reading.timestamp == NOON
    assert reading.measurements == data
    assert [type(reading.measurements[name]) for name in ("t", "n", "on")] == [float, int, bool]
    assert reading.metadata == {"sensor": "top"}


def test_a_reading_without_a_time_gets_the_devices_own_and_none_twice(device):
    answers = [device.submit({"n": n}) for n in range(5)]
    times = [answer.timestamp for answer in answers]
    assert sorted(set(times)) == times
    assert abs(times[0] - datetime.now(UTC)) < timedelta(minutes=1)
    assert [reading.measurements["n"] for reading in device.history()] == [4, 3, 2, 1, 0]


def test_a_device_without_a_clock_lets_the_server_give_the_time(device):
    with Device(device.url, device.key, server_time=True) as clockless:
        first, second = clockless.submit({"n": 1}), clockless.submit({"n": 1})
    assert first.timestamp < second.timestamp


@pytest.mark.parametrize("time", [NOON, NOON.timestamp(), 1769860800000, "2026-01-31T12:00:00Z"])
def test_a_time_may_be_a_datetime_an_epoch_or_a_text(device, time):
    assert device.submit({"n": 1}, time).timestamp == NOON


@pytest.mark.parametrize(
    ("data", "time"),
    [
        ({"n": 1}, datetime(2026, 1, 31)),
        ({"n": 1}, "-10m"),  # another time at each try
        ({"n": 1}, "now"),
        ({"n": 1}, float("nan")),
        ({"n": float("inf")}, None),
        ({"n": "\ud800"}, None),
        ({}, None),
    ],
)
def test_what_can_never_be_sent_is_refused_at_once(device, data, time):
    with pytest.raises(ValueError):  # noqa: PT011  (of several origins)
        device.submit(data, time)
    assert list(device.history(LONG_AGO)) == []


def test_history_follows_the_pages_and_asks_for_no_more_than_needed(device, monkeypatch):
    monkeypatch.setattr(telemetry, "PAGE", 2)
    for n in range(5):
        device.submit({"n": n, "other": 1}, NOON + timedelta(seconds=n))

    def numbers(*span, **options):
        return [reading.measurements["n"] for reading in device.history(*span, **options)]

    assert numbers(LONG_AGO) == [4, 3, 2, 1, 0]
    assert numbers(LONG_AGO, order="asc") == [0, 1, 2, 3, 4]
    assert numbers(LONG_AGO, limit=3) == [4, 3, 2]
    assert numbers(NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)) == [2, 1]
    readings = list(device.history(LONG_AGO, fields=["n"]))
    assert all(set(reading.measurements) == {"n"} for reading in readings)


def test_the_latest_value_of_each_measurement(device):
    assert device.latest().values == {}
    assert device.latest().timestamp is None
    device.submit({"a": 1, "b": 1}, NOON)
    device.submit({"a": 2}, NOON + timedelta(seconds=1))
    assert device.latest().values == {"a": 2, "b": 1}
    assert device.latest().timestamp == NOON + timedelta(seconds=1)


def test_heartbeat_and_status(device):
    assert abs(device.heartbeat() - datetime.now(UTC)) < timedelta(minutes=1)
    status = device.status()
    assert (status.id, status.status, status.is_online) == (device.id, "active", True)
    assert status.last_seen is not None


def test_a_refusal_names_every_field_and_is_not_repeated(device):
    with pytest.raises(ValidationFailed) as refused:
        device.submit({"bad\0name": 1, "n": None}, NOON)
    assert refused.value.status == 400
    assert refused.value.code == "validation_error"
    assert len(refused.value.details) == 2
    assert "data.n" in str(refused.value)


def test_a_key_that_is_unknown(device):
    with Device(device.url, "x" * 40) as stranger, pytest.raises(NotAuthenticated):
        stranger.submit({"n": 1})


def test_a_key_with_a_line_end_is_the_key_and_nonsense_is_told_without_showing_it(device):
    with Device(device.url, f"{device.key}\n") as found:
        assert found.status().id == device.id
    with pytest.raises(ValueError, match="visible ASCII") as refused:
        Device(device.url, "geheim\nß")
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "iot.example.com", "http://", "ftp://a", "http://u:p@a", "::"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ValueError, match="ddress"):
        Device(url, "k" * 40)


def test_the_key_is_in_no_log_and_no_repr(grace, caplog, url):
    caplog.set_level(logging.DEBUG)
    with grace.register_device("secretive") as device:
        device.submit({"n": 1})
        with pytest.raises(ValidationFailed) as refused:
            device.submit({"n": None})
        seen = repr(device) + repr(vars(device)) + repr(vars(device._connection)) + caplog.text
        assert "httpcore" in seen, "nothing was logged"
        assert device.key not in seen + repr(refused.value) + str(refused.value)


def test_a_batch_in_as_many_calls_as_it_needs(device):
    readings = [Reading({"n": n}, NOON + timedelta(seconds=n)) for n in range(2300)]
    result = device.submit_batch(readings)
    assert (result.stored, result.duplicates, result.rejected) == (2300, 0, [])
    assert [verdict.index for verdict in result.verdicts] == list(range(2300))
    back = [reading.measurements["n"] for reading in device.history(LONG_AGO, order="asc")]
    assert back == list(range(2300))


def test_a_batch_in_which_one_is_wrong_stores_the_others(device):
    result = device.submit_batch([Reading({"n": 1}), Reading({"n": None}), Reading({"n": 3})])
    assert [verdict.status for verdict in result.verdicts] == ["stored", "rejected", "stored"]
    [wrong] = result.rejected
    assert wrong.index == 1
    assert wrong.reason.startswith("data.n: ")
    none_good = device.submit_batch([Reading({"n": None}), Reading({"ü": 1, "n": None})])
    assert [verdict.status for verdict in none_good.verdicts] == ["rejected", "rejected"]
    assert "data.ü: " in none_good.verdicts[1].reason
    assert "data.n: " in none_good.verdicts[1].reason
    assert sorted(reading.measurements["n"] for reading in device.history()) == [1, 3]


def test_the_configuration_is_fetched_once_and_known_to_be_unchanged(grace, device):
    assert (device.config().version, device.config().settings) == (0, {})
    path = f"/devices/{device.id}/config"
    grace._connection.request("PUT", path, content=b'{"config": {"interval": 60}}')
    first, again = device.config(), device.config()
    assert (first.settings, first.is_new) == ({"interval": 60}, True)
    assert (again.version, again.settings, again.is_new) == (first.version, first.settings, False)
    device.report_config(first.version, "failed", "no such mode")
    reported = grace._connection.get(path).body["reported"]
    assert (reported["version"], reported["status"]) == (first.version, "failed")
    grace._connection.request("PUT", path, content=b'{"config": {"interval": 5}}')
    changed = device.config()
    assert (changed.settings, changed.is_new) == ({"interval": 5}, True)
    assert changed.version > first.version


# --- Users --------------------------------------------------------------------------------------
def test_a_user_reads_and_lists_their_own_devices_only(grace, device, url):
    device.submit({"n": 7}, NOON)
    assert grace.latest(device.id).values == {"n": 7}
    assert [reading.timestamp for reading in grace.history(device.id, LONG_AGO)] == [NOON]
    name = device.status().name
    [listed] = grace.devices(search=name)
    assert (listed.id, listed.fields["location"]) == (device.id, "")
    assert device.id in {info.id for info in grace.devices()}
    with User(url) as other:
        other.register("heidi", "heidi@example.org", "swordfish 17")
        other.login("heidi@example.org", "swordfish 17")
        assert list(other.devices()) == []
        with pytest.raises(NotFound):
            other.latest(device.id)
        other.logout()
        with pytest.raises(NotAuthenticated):
            list(other.devices())


def test_a_name_that_is_taken_and_a_wrong_password(grace, url):
    with User(url) as user:
        with pytest.raises(Conflict):
            user.register("grace", "other@example.org", "swordfish 17")
        with pytest.raises(NotAuthenticated):
            user.login("grace", "wrong")


def test_a_gateway_submits_for_many_devices(grace):
    with grace.register_device("one") as one, grace.register_device("two") as two:
        result = grace.submit_bulk(
            [(device.id, Reading({"n": n}, NOON)) for n, device in enumerate((one, two))]
        )
        assert result.stored == 2
        assert [device.latest().values for device in (one, two)] == [{"n": 0}, {"n": 1}]
