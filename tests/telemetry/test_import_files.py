"""NDJSON and Parquet to readings: which lines and rows are readings, which are not, and why."""

import io
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from math import nan
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from telemetry.importing import BadFile, BadRow, CsvFile, Row
from telemetry.ndjsonfile import NdjsonFile
from telemetry.parquet import SCHEMA
from telemetry.parquetfile import ParquetFile

SEATTLE = ZoneInfo("America/Los_Angeles")
NOON = datetime(2024, 12, 4, 12, tzinfo=UTC)
NOON_MS = 1_733_313_600_000


def lines(text):
    return list(NdjsonFile(io.BytesIO(text.encode("utf-8", "surrogatepass")), zone=UTC))


def exported(text):
    return list(CsvFile(io.BytesIO(text.encode()), time=None, zone=UTC))


def parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file


def rows(columns, *, time="time", zone=UTC, mapping=None):
    return list(ParquetFile(parquet(pa.table(columns)), time=time, zone=zone, mapping=mapping))


# --- NDJSON -------------------------------------------------------------------------------------
def test_a_line_is_a_reading():
    assert lines(
        '{"timestamp":"2024-12-04T12:00:00Z","measurements":{"a":1,"b":[1.0]},"metadata":{"m":1}}\n'
        "\n"
        '{"timestamp":1733313600000,"measurements":{"a":true},"metadata":null}'
    ) == [
        Row(1, NOON_MS, {"a": 1, "b": [1.0]}, "", {"m": 1}),
        Row(3, NOON_MS, {"a": True}),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[1]", "no object with “measurements”"),
        ('{"timestamp":1,"measurements":[1]}', "no object with “measurements”"),
        ('{"measurements":{"a":1}}', "is no time"),
        ('{"timestamp":"-24h","measurements":{"a":1}}', "is no time"),
        ('{"timestamp":[1],"measurements":{"a":1}}', "is no time"),
        ('{"timestamp":1,"measurements":{}}', "at least one measurement"),
        ('{"timestamp":1,"measurements":{"a":null}}', "a: .*null is not a value"),
        ('{"timestamp":1,"measurements":{"a":9223372036854775808}}', "64 bits"),
        ('{"timestamp":1,"measurements":{"a":NaN}}', "NaN is not JSON"),
        ('{"timestamp":1,"measurements":{"a":"\\ud800"}}', "valid Unicode"),
        ('{"timestamp":1,"measurements":{"ä":1}}', "letters, digits"),
        ('{"timestamp":1,"measurements":{"a":1},"metadata":[1]}', "metadata: Must be an object"),
        ('{"error":"store_away","message":"The export broke off.","cursor":null}', "broke off"),
    ],
)
def test_a_line_that_is_wrong_anywhere_is_bad_as_a_whole(line, reason):
    [row] = lines(line)
    assert isinstance(row, BadRow)
    assert re.search(reason, row.reason)


# --- CSV as exports write it --------------------------------------------------------------------
def test_a_cell_that_an_export_wrote_is_what_it_was():
    [row] = exported(
        "timestamp,A b,'-c,d,e,f,g\r\n"
        '2024-12-04T12:00:00.000Z,1,1.0,true,"{""x"":1}",\'=1+1, spaced \r\n'
    )
    values = {"A b": 1, "-c": 1.0, "d": True, "e": {"x": 1}, "f": "=1+1", "g": " spaced "}
    assert row == Row(2, NOON_MS, values)
    assert type(row.values["-c"]) is float


def test_a_file_that_is_no_export_needs_the_column_of_times():
    with pytest.raises(BadFile, match="--time; its columns are: “time”, “a”"):
        exported("time,a\n")


def test_the_last_line_of_an_export_that_broke_off_is_told():
    row = exported("timestamp,a,b\r\n2024-12-04,1,2\r\nerror: The export broke off after x\r\n")[1]
    assert row == BadRow(3, "error: The export broke off after x")


# --- Parquet ------------------------------------------------------------------------------------
def test_a_table_is_read_as_csv_is():
    assert rows(
        {
            "time": [NOON, NOON],
            "Temp °C": [20.5, None],
            "n": pa.array([1, 2], pa.uint8()),
            "on": [True, False],
            "note": pa.array(["a", "b"]).dictionary_encode(),
            "o": [{"x": [1]}, {"x": []}],
            "nan": [nan, 1.0],
        }
    ) == [
        Row(1, NOON_MS, {"temp_c": 20.5, "n": 1, "on": True, "note": "a", "o": {"x": [1]}}),
        Row(2, NOON_MS, {"n": 2, "on": False, "note": "b", "o": {"x": []}, "nan": 1.0}),
    ]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([NOON], pa.timestamp("ns", tz="Europe/Berlin")),
        pa.array([datetime(2024, 12, 4, 4)], pa.timestamp("us")),
        pa.array(["2024-12-04T04:00"]),
        pa.array(["2024-12-04T12:00:00Z"]),
        pa.array([NOON_MS]),
        pa.array([NOON_MS / 1000]),
    ],
)
def test_a_time_without_a_zone_is_local_and_any_other_is_what_it_says(times):
    assert rows({"time": times, "a": [1]}, zone=SEATTLE) == [Row(1, NOON_MS, {"a": 1})]


def test_a_date_is_its_local_midnight():
    [row] = rows({"time": [date(2024, 12, 4)], "a": [1]}, zone=SEATTLE)
    assert row.time == NOON_MS - 4 * 3_600_000


def test_a_local_time_that_the_clocks_skip_is_in_doubt():
    [row] = rows({"time": [datetime(2010, 3, 14, 2, 30)], "a": [1]}, zone=SEATTLE)
    assert row.doubt == "2010-03-14 02:30:00 does not exist"


def test_only_the_columns_of_a_mapping_are_measurements():
    [row] = rows({"time": [NOON_MS], "v.1": [1], "v2": [Decimal(1)]}, mapping={"v.1": "x"})
    assert row.values == {"x": 1}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"time": [None], "a": [1]}, "is no time"),
        ({"time": pa.array([None], pa.timestamp("ms")), "a": [1]}, "no time within"),
        ({"time": pa.array([-(10**17)], pa.timestamp("ms")), "a": [1]}, "no time within"),
        ({"time": [NOON], "a": [None]}, "no value in any column"),
        ({"time": [NOON], "a": pa.array([2**64 - 1], pa.uint64())}, "a: .*64 bits"),
        ({"time": [NOON], "a": [float("inf")]}, "a: A number must be finite"),
        ({"time": [NOON], "a": ["x" * 1025]}, "a: A string has at most 1024 bytes"),
    ],
)
def test_a_row_that_is_wrong_anywhere_is_bad_as_a_whole(columns, reason):
    [row] = rows(columns)
    assert isinstance(row, BadRow)
    assert re.search(reason, row.reason)


@pytest.mark.parametrize(
    ("columns", "options", "reason"),
    [
        ({"time": [1]}, {}, "no column besides the time"),
        ({"date": [1], "a": [1]}, {}, "no column “time”; its columns are: “date”, “a”"),
        ({"time": [1], "a": [Decimal(1)]}, {}, "“a” has type decimal"),
        ({"time": [1], "a": [b"x"]}, {}, "“a” has type binary"),
        ({"time": [1], "a": [1]}, {"time": None}, "--time; its columns are: “time”, “a”"),
    ],
)
def test_a_table_that_will_not_do_is_refused_before_anything_is_read(columns, options, reason):
    with pytest.raises(BadFile, match=reason):
        rows(columns, **options)


def test_a_file_without_its_footer_is_refused():
    content = parquet(pa.table({"time": [1], "a": [1]})).getvalue()
    with pytest.raises(BadFile, match="no Parquet file, or not a whole one"):
        ParquetFile(io.BytesIO(content[:-4]), time="time", zone=UTC)


def test_a_row_of_an_export_without_a_value_is_bad():
    row = {"timestamp": NOON, "measurement": "a", "json": None}
    broken = {"timestamp": NOON, "measurement": "a", "json": "{", "metadata": None}
    table = pa.Table.from_pylist([row, {**broken, "timestamp": NOON.replace(hour=13)}], SCHEMA)
    first, second = ParquetFile(parquet(table), time=None, zone=UTC)
    assert (first.line, "null is not a value" in first.reason) == (1, True)
    assert (second.line, "no JSON" in second.reason) == (2, True)


# --- The command --------------------------------------------------------------------------------
def load(path, device, **options):
    out = io.StringIO()
    call_command("import_telemetry", str(path), device=str(device.id), stdout=out, **options)
    return out.getvalue()


def test_a_format_is_told_by_the_ending_or_by_name(sensor, tmp_path):
    content = '{"timestamp":1,"measurements":{"a":1}}\n'
    for name, options in (("x.jsonl", {}), ("x.NDJSON", {}), ("x.txt", {"format": "ndjson"})):
        (tmp_path / name).write_text(content)
        assert load(tmp_path / name, sensor, **options) == "1 reading imported.\n"


def test_rows_of_parquet_are_named_as_rows(sensor, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(parquet(pa.table({"t": [1, None, 3], "a": [1, 2, 3]})).getvalue())
    out = load(path, sensor, time="t")
    assert "  row 2 skipped: “” is no time" in out
    assert out.endswith("2 readings imported, 1 row skipped (row 2).\n")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("x.ndjson", {"time": "t"}, "--time is for tables"),
        ("x.csv", {"map": ["a=b"]}, "--map goes with --time"),
        ("x.parquet", {}, "no Parquet file"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(sensor, tmp_path, name, options, reason):
    (tmp_path / name).write_text("timestamp,a\n")
    with pytest.raises(CommandError, match=reason):
        load(tmp_path / name, sensor, **options)
