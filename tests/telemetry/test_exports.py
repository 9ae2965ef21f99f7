"""Readings as a file."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client

from iotflow.lib.errors import error_body
from telemetry.cursors import HistoryCursor
from telemetry.encoders import Csv, Ndjson
from telemetry.parquet import Parquet

NOON = "2024-12-04T12:00:00.000Z"


def export(device, **query):
    """The streamed answer, read whole: text, or of Parquet the bytes."""
    response = Client().get(
        f"/api/v1/telemetry/{device.id}/export",
        {"start_time": "2020-01-01", **query},
        headers={"x-api-key": device.key},
    )
    content = b"".join(response.streaming_content)
    return response, content if query.get("format") == "parquet" else content.decode()


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


def test_parquet_has_a_row_for_every_value_in_the_column_of_its_type(told):
    response, content = export(told, format="parquet")
    assert response["Content-Type"] == "application/vnd.apache.parquet"
    assert response["Content-Disposition"].endswith(f'"device-{told.id}.parquet"')
    table = pq.read_table(io.BytesIO(content))
    assert table.schema.field("timestamp").type == pa.timestamp("ms", tz="UTC")
    columns = ("measurement", "number", "integer", "boolean", "text", "json", "metadata")
    rows = [tuple(row[name] for name in columns) for row in table.to_pylist()]
    assert rows == [
        ("n", 3.0, 3, None, None, None, None),
        ("on", None, None, True, None, None, None),
        ("t", 21.5, None, None, None, None, None),
        ("note", None, None, None, 'a "b", c\nd', None, None),
        ("o", None, None, None, None, '{"x":[1]}', None),
        ("note", None, None, None, "=1+1", None, '{"m":1}'),
        ("t", -2.0, -2, None, None, None, '{"m":1}'),
    ]
    assert table["timestamp"][0].as_py().isoformat() == "2024-12-04T12:00:00+00:00"


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_with_a_cursor_it_goes_on_behind_a_time(told, order):
    query = {"start_time": "2020-01-01", "order": order}
    cursor = told.api.get(f"/telemetry/{told.id}", limit=1, **query).json["next_cursor"]
    whole, rest = (
        export(told, format="ndjson", order=order, **more)[1].splitlines()
        for more in ({}, {"cursor": cursor})
    )
    assert rest == whole[1:]
    _, text = export(told, order=order, cursor=cursor, fields="t")
    assert len(text.splitlines()) == 2
    _, content = export(told, format="parquet", order=order, cursor=cursor)
    assert len(set(pq.read_table(io.BytesIO(content))["timestamp"])) == 2


def test_what_broke_off_does_not_look_complete(told):
    assert json.loads(Ndjson().break_off("It broke off.", "abc")) == {
        **error_body(503, "It broke off."),
        "cursor": "abc",
    }
    assert Csv(["a"]).break_off("It broke off.", None) == b"error: It broke off.\r\n"
    assert Csv(["a"]).break_off("It broke off.", "abc") == (
        b"error: It broke off. Go on with cursor=abc\r\n"
    )
    encoder = Parquet()
    content = encoder.begin() + encoder.encode([]) + encoder.break_off("It broke off.", "abc")
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(io.BytesIO(content))


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
    assert pq.read_table(io.BytesIO(export(sensor, format="parquet")[1])).num_rows == 0


def test_what_is_wrong_is_named(sensor, bob):
    cursor = HistoryCursor(descending=True, start=0, end=1, after=1).encode()
    for query, wrong in (
        ({"format": "xlsx"}, "format"),
        ({"order": "up"}, "order"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": cursor}, "cursor"),
    ):
        answer = sensor.api.get(f"/telemetry/{sensor.id}/export", **query)
        assert (answer.status, answer.fields()) == (400, {wrong})
    assert bob.api.get(f"/telemetry/{sensor.id}/export").status == 404


def test_too_many_fields_are_refused(sensor):
    fields = ",".join(f"m{n}" for n in range(101))
    for path in ("", "/export"):
        answer = sensor.api.get(f"/telemetry/{sensor.id}{path}", fields=fields)
        assert (answer.status, answer.fields()) == (400, {"fields"})
