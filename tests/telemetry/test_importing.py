"""CSV to readings: which rows are readings, which are not, and why; then the command."""

import csv
import io
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from events.models import EventLog
from iotflow.lib.timeparse import format_ms, now_ms, to_ms
from telemetry.importing import (
    SHOWN,
    BadFile,
    BadRow,
    CsvFile,
    Noted,
    Row,
    Tally,
    measurement_name,
    parse_time,
    parse_value,
)

SAMPLES = settings.BASE_DIR / "samples"
SEATTLE = ZoneInfo("America/Los_Angeles")


def read(text, *, time="time", zone=UTC, mapping=None):
    content = text if isinstance(text, bytes) else text.encode()
    return list(CsvFile(io.BytesIO(content), time=time, zone=zone, mapping=mapping))


def only(text, **options):
    [row] = read(text, **options)
    return row


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("007", 7),
        ("1.0", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("TRUE", True),
        ("false", False),
        ("1_000", "1_000"),
        ("1,5", "1,5"),
        ("open", "open"),
    ],
)
def test_a_cell_is_an_integer_else_a_float_else_a_boolean_else_text(text, value):
    found = parse_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2010/01/01 00:00", "2010-01-01T08:00:00.000Z"),
        ("2010/1/2 3:04", "2010-01-02T11:04:00.000Z"),
        ("2010-07-01 12:00:00", "2010-07-01T19:00:00.000Z"),
        ("2010-01-01T00:00:00.250Z", "2010-01-01T00:00:00.250Z"),
        ("2022-03-20T11:00:00+01:00", "2022-03-20T10:00:00.000Z"),
        ("1700000000", "2023-11-14T22:13:20.000Z"),
        ("1700000000123", "2023-11-14T22:13:20.123Z"),
    ],
)
def test_a_time_without_a_zone_is_local_and_any_other_is_what_it_says(text, stamp):
    ms, doubt = parse_time(text, SEATTLE)
    assert (format_ms(ms), doubt) == (stamp, "")


def test_a_local_time_that_the_clocks_repeat_is_the_first_and_in_doubt():
    ms, doubt = parse_time("2010/11/07 01:30", SEATTLE)
    assert format_ms(ms) == "2010-11-07T08:30:00.000Z"
    assert doubt == "2010-11-07 01:30:00 exists twice"


def test_a_local_time_that_the_clocks_skip_is_taken_by_the_offset_before_and_in_doubt():
    ms, doubt = parse_time("2010/03/14 02:30", SEATTLE)
    assert format_ms(ms) == "2010-03-14T10:30:00.000Z"
    assert doubt == "2010-03-14 02:30:00 does not exist"


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("Water flow [l/s]", "water_flow_l/s"),
        ("temp", "temp"),
        ("Température °C", "temperature_c"),
        ("PM 2.5 (µg/m³)", "pm_2.5_ug/m3"),
        ("°", ""),
    ],
)
def test_a_column_is_a_measurement_under_its_name_made_fit(column, name):
    assert measurement_name(column) == name


def test_every_column_but_the_time_is_a_measurement():
    row = only("a b,time,Flag\n1,1700000000,true\n")
    assert row == Row(2, 1_700_000_000_000, {"a_b": 1, "flag": True})


def test_with_a_mapping_only_its_columns_are():
    row = only("time,V1,V2\n1700000000,1,nan\n", mapping={"V1": "temperature"})
    assert row.values == {"temperature": 1}


def test_an_empty_cell_is_left_out():
    assert only("time,a,b\n1700000000, ,2\n").values == {"b": 2}


def test_a_mark_at_the_beginning_and_other_line_ends_do_no_harm():
    row = only(b"\xef\xbb\xbftime,a\r\n1700000000,1\r\n\r\n")
    assert row == Row(2, 1_700_000_000_000, {"a": 1})


def test_lines_are_counted_as_an_editor_counts_them():
    rows = read('time,note\n1700000000,"two\nlines"\n\n1700000001,b\n')
    assert [(row.line, row.values["note"]) for row in rows] == [(2, "two\nlines"), (5, "b")]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("1700000000,1", "2 columns instead of 3"),
        ("1700000000,1,2,3", "4 columns instead of 3"),
        ("yesterday,1,2", "is no time"),
        ("-24h,1,2", "is no time"),
        (",1,2", "is no time"),
        ("0001-01-01T00:00:00+14:00,1,2", "outside the years"),
        ("1700000000,,", "no value"),
        ("1700000000,nan,2", "a: A number must be finite"),
        ("1700000000,1,-Infinity", "b: A number must be finite"),
        ("1700000000,1e999,2", "a: A number must be finite"),
        ("1700000000,9223372036854775808,2", "a: An integer must fit into 64 bits"),
        ("1700000000,1," + "x" * 1025, "b: A string has at most 1024 bytes"),
        ("1700000000,1,\0", "NUL"),
        (b"1700000000,1,caf\xe9", "valid Unicode"),
        ("1700000000,1," + "x" * 200_000, "field larger than field limit"),
        ('1700000000,1,"x', "unexpected end of data"),
    ],
)
def test_a_row_that_is_wrong_anywhere_is_bad_as_a_whole(cells, reason):
    cells = cells.encode() if isinstance(cells, str) else cells
    row = only(b"time,a,b\n" + cells)
    assert isinstance(row, BadRow)
    assert row.line == 2
    assert reason in row.reason


def test_a_bad_row_harms_no_other():
    rows = read("time,a\n" + "x" * 3_000_000 + "\nnever,1\n1700000000,1\n")
    assert [type(row) for row in rows] == [BadRow, BadRow, Row]
    assert rows[2].line == 4


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no header"),
        ("\n", "no header"),
        ("date,a\n", "no column “time”; its columns are: “date”, “a”"),
        ("time,time\n", "2 columns named “time”"),
        ("time\n", "no column besides the time"),
        ("time,a b,a_b\n", "would both be “a_b”"),
        ("time,°\n", "cannot be stored"),
        ("time," + "x" * 65 + "\n", "at most 64 characters"),
    ],
)
def test_a_header_that_will_not_do_is_refused_before_anything_is_read(header, reason):
    with pytest.raises(BadFile, match=reason):
        read(header)


def test_a_mapping_to_a_name_that_cannot_be_is_refused():
    with pytest.raises(BadFile, match="cannot be stored as “ä”"):
        read("time,a\n", mapping={"a": "ä"})


def test_a_mapped_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadFile, match="no column “V9”; its columns are: “time”, “a”"):
        read("time,a\n", mapping={"V9": "x"})


def test_a_tally_counts_repeated_times_once():
    tally = Tally()
    rows = [Row(2, 5, {"a": 1}), Row(3, 5, {"b": 1}), Row(4, 9, {"a": 1}), BadRow(5, "no")]
    assert len(list(tally.good(rows))) == 3
    assert (tally.readings, tally.earliest, tally.latest) == (2, 5, 9)
    assert (tally.measurements, tally.bad.lines()) == ({"a", "b"}, "line 5")


def test_thousands_of_bad_lines_are_named_by_the_first_and_a_number():
    noted = Noted()
    for line in range(2, 2002):
        noted.add(line, "bad")
    assert len(noted.first) == SHOWN
    assert noted.lines().endswith(", 21 and 1,980 more")


# --- The command --------------------------------------------------------------------------------
def run(path, device, **options):
    out = io.StringIO()
    call_command(
        "import_telemetry", str(path), device=str(device), stdout=out, **{"time": "time", **options}
    )
    return out.getvalue()


def history(device, **query):
    query = {"start_time": "1970-01-01", "limit": 10_000, **query}
    return device.api.get(f"/telemetry/{device.id}", **query).json["data"]


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "readings.csv"
        path.write_text(text)
        return path

    return write


def test_what_is_imported_is_read_back(sensor):
    out = run(SAMPLES / "occupancy.csv", sensor.id, map=["V1=temperature", "V4=co2"])
    assert out == "509 readings imported.\n"
    readings = history(sensor)
    assert len(readings) == 509
    assert readings[-1] == {
        "timestamp": "2015-02-04T17:51:00.000Z",
        "measurements": {"co2": 721.25, "temperature": 23.18},
    }


def test_every_reading_of_a_file_comes_back_by_cursor_in_order_and_bit_for_bit(sensor):
    run(SAMPLES / "water-flow.csv", sensor.id, time="Time")
    with (SAMPLES / "water-flow.csv").open() as file:
        written = [
            (to_ms(datetime.fromisoformat(row["Time"])), float(row["Water flow [l/s]"]).hex())
            for row in csv.DictReader(file)
        ]
    query = {"start_time": written[0][0], "end_time": written[-1][0], "order": "asc"}
    read: list[tuple[int, str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = sensor.api.get(f"/telemetry/{sensor.id}", limit=100, **query, **cursor).json
        read += [
            (
                to_ms(datetime.fromisoformat(reading["timestamp"])),
                float(reading["measurements"]["water_flow_l/s"]).hex(),
            )
            for reading in page["data"]
        ]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(written) == 1268
    assert read == written


def test_imported_twice_is_stored_once(sensor):
    for _ in range(2):
        run(SAMPLES / "water-flow.csv", sensor.id, time="Time")
    assert len(history(sensor)) == 1268


def test_the_clocks_of_seattle_are_in_doubt_twice(sensor):
    out = run(
        SAMPLES / "seattle-temps.csv",
        sensor.id,
        time="date",
        tz="America/Los_Angeles",
        dry_run=True,
    )
    assert "skips or repeats 2 local time(s)" in out
    assert "line 1732: 2010-03-14 02:00:00 does not exist" in out
    assert "8,759 readings would be imported. Nothing was changed." in out


def test_bad_rows_are_skipped_and_named(sensor, file):
    out = run(file("time,a\n1700000000,1\nnever,2\n1700000001,nan\n1700000002,3\n"), sensor.id)
    assert "line 3 skipped: “never” is no time" in out
    assert "line 4 skipped: a: A number must be finite" in out
    assert out.endswith("2 readings imported, 2 rows skipped (lines 3, 4).\n")
    assert [reading["measurements"]["a"] for reading in history(sensor)] == [3, 1]


def test_a_dry_run_says_what_would_be_and_changes_nothing(sensor, file):
    out = run(file("time,a,b\n1700000000,1,2\nnever,1,2\n"), sensor.id, dry_run=True)
    assert "Times: 2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.000Z" in out
    assert "Measurements: a, b" in out
    assert "1 reading would be imported, 1 row skipped (line 3). Nothing was changed." in out
    assert history(sensor) == []
    assert not EventLog.objects.filter(kind="telemetry.imported").exists()


def test_shifted_to_now_the_newest_is_now_and_the_distances_stay(sensor, file):
    before = now_ms()
    run(file("time,a\n1000,1\n4600,2\n"), sensor.id, shift_to_now=True)
    newest, oldest = history(sensor)
    assert format_ms(before) <= newest["timestamp"] <= format_ms(now_ms())
    assert parse_time(newest["timestamp"], UTC)[0] - parse_time(oldest["timestamp"], UTC)[0] == (
        3_600_000
    )


def test_latest_values_follow_an_import_at_once(sensor, file):
    latest = f"/telemetry/{sensor.id}/latest"
    assert sensor.api.get(latest).json["latest_data"] == {}
    run(file("time,a\n1700000000,1\n1700000001,2\n"), sensor.id)
    assert sensor.api.get(latest).json["latest_data"] == {"a": 2}


def test_an_import_is_one_event(sensor, file):
    run(file("time,a\n1700000000,1\nnever,2\n"), sensor.id)
    event = EventLog.objects.get(kind="telemetry.imported")
    assert (event.device_id, event.user_id) == (sensor.id, sensor.device.owner_id)
    assert event.payload == {"readings": 1, "source": "readings.csv", "rows_skipped": 1}


def test_a_device_is_found_by_its_name(sensor, file):
    run(file("time,a\n1700000000,1\n"), "sensor")
    assert len(history(sensor)) == 1


def test_a_name_of_several_owners_needs_the_owner(sensor, bob, make_device, file):
    his = make_device(bob, "sensor")
    path = file("time,a\n1700000000,1\n")
    with pytest.raises(CommandError, match=rf"{sensor.id} \(alice\), {his.id} \(bob\)"):
        run(path, "sensor")
    run(path, "sensor", owner="Bob")
    assert (len(history(sensor)), len(history(his))) == (0, 1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "nobody's"}, "no device with the name or id “nobody's”"),
        ({"device": "9" * 30}, "no device"),
        ({"owner": "bob"}, "no device of bob"),
        ({"tz": "Mars/Phobos"}, "no time zone “Mars/Phobos”"),
        ({"tz": "../../etc"}, "no time zone"),
        ({"time": "date"}, "no column “date”; its columns are: “time”, “a”"),
        ({"map": ["V9=x"]}, "no column “V9”"),
        ({"map": ["a"]}, "--map takes COLUMN=MEASUREMENT"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(sensor, file, options, reason):
    options = {"device": sensor.id, **options}
    with pytest.raises(CommandError, match=reason):
        run(file("time,a\n1700000000,1\n"), **options)


def test_a_missing_file_is_named(sensor, tmp_path):
    with pytest.raises(CommandError, match=r"nowhere\.csv cannot be read: No such file"):
        run(tmp_path / "nowhere.csv", sensor.id)
