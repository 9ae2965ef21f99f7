"""Readings as a file."""

import csv
import io
import json

import pytest
from django.test import Client

NOON = "2024-12-04T12:00:00.000Z"


def export(device, **query):
    """The streamed answer, read whole."""
    response = Client().get(
        f"/api/v1/telemetry/{device.id}/export",
        {"start_time": "2020-01-01", **query},
        headers={"x-api-key": device.key},
    )
    return response, b"".join(response.streaming_content).decode()


@pytest.fixture
def told(sensor):
    items = [
        {"data": {"t": 21.5, "on": True, "n": 3}, "timestamp": NOON},
        {"data": {"note": 'a "b", c\nd', "o": {"x": [1]}}, "timestamp": "2024-12-04T12:00:01Z"},
        {"data": {"note": "=1+1", "t": -2}, "metadata": {"m": 1}, "timestamp": "2024-12-05"},
    ]
    assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 201
    return sensor


def test_csv_has_a_column_for_every_measurement(told):
    response, text = export(told)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="device-{told.id}.csv"'
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["timestamp", "n", "note", "o", "on", "t"]
    assert rows == [
        [NOON, "3", "", "", "true", "21.5"],
        ["2024-12-04T12:00:01.000Z", "", 'a "b", c\nd', '{"x":[1]}', "", ""],
        ["2024-12-05T00:00:00.000Z", "", "'=1+1", "", "", "-2"],
    ]


def test_ndjson_is_what_the_history_says(told):
    response, text = export(told, format="ndjson")
    assert response["Content-Type"] == "application/x-ndjson"
    told_history = told.api.get(f"/telemetry/{told.id}", start_time="2020-01-01", order="asc").json[
        "data"
    ]
    assert [json.loads(line) for line in text.splitlines()] == told_history


def test_fields_order_and_range_narrow_it(told):
    _, text = export(told, fields="t", order="desc", end_time="2024-12-05")
    assert text.splitlines() == [
        "timestamp,t",
        "2024-12-05T00:00:00.000Z,-2",
        f"{NOON},21.5",
    ]


def test_it_goes_on_past_a_page_without_end(sensor):
    items = [{"data": {"a": n}, "timestamp": 1_700_000_000_000 + n} for n in range(2500)]
    for begin in range(0, 2500, 1000):
        sensor.api.post("/telemetry/batch", {"readings": items[begin : begin + 1000]})
    _, text = export(sensor, format="ndjson")
    assert [json.loads(line)["measurements"]["a"] for line in text.splitlines()] == list(
        range(2500)
    )


def test_a_device_without_readings_has_an_empty_file(sensor):
    assert export(sensor)[1] == "timestamp\r\n"
    assert export(sensor, format="ndjson")[1] == ""


def test_what_is_wrong_is_named(sensor, bob):
    for query, wrong in (({"format": "xlsx"}, "format"), ({"order": "up"}, "order")):
        answer = sensor.api.get(f"/telemetry/{sensor.id}/export", **query)
        assert (answer.status, answer.fields()) == (400, {wrong})
    assert bob.api.get(f"/telemetry/{sensor.id}/export").status == 404


def test_too_many_fields_are_refused(sensor):
    fields = ",".join(f"m{n}" for n in range(101))
    for path in ("", "/export"):
        answer = sensor.api.get(f"/telemetry/{sensor.id}{path}", fields=fields)
        assert (answer.status, answer.fields()) == (400, {"fields"})
