"""What was exported, imported into another device, and exported again."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from telemetry.archive import STATE, Archive, Order, Unfit
from telemetry.backfill import Backfill, Sample
from telemetry.bookmark import Bookmark, Place
from telemetry.partfiles import Tables
from tests.telemetry.awkward import BEGIN, MORE, READINGS

FORMATS = ("csv", "ndjson", "parquet")


def export(directory, *devices, **options):
    out = io.StringIO()
    call_command(
        "export_telemetry",
        str(directory),
        device=[str(device.id) for device in devices],
        stdout=out,
        **options,
    )
    return out.getvalue()


def load(path, device, **options):
    out = io.StringIO()
    call_command("import_telemetry", str(path), device=str(device.id), stdout=out, **options)
    return out.getvalue()


def file_of(directory, device, wanted):
    return directory / f"device-{device.id}.{wanted}"


def history(device, **query):
    query = {"start_time": "0001-01-01", "limit": 10_000, "order": "asc", **query}
    return device.api.get(f"/telemetry/{device.id}", **query).json["data"]


def fill(device, count):
    backfill = Backfill(device.device)
    for begin in range(0, count, 500):
        numbers = range(begin, min(begin + 500, count))
        backfill.write([Sample(BEGIN + 1000 * n, {"a": n, "b": n / 7}) for n in numbers])


@pytest.fixture
def other(alice, make_device):
    return make_device(alice, "other")


@pytest.mark.parametrize("wanted", FORMATS)
def test_it_is_the_same_file_again(sensor, other, tmp_path, wanted):
    items = READINGS if wanted == "csv" else READINGS + MORE
    assert sensor.api.post("/telemetry/batch", {"readings": items}).status == 201
    export(tmp_path, sensor, format=wanted)
    first = file_of(tmp_path, sensor, wanted)
    out = load(first, other)
    assert out == f"{len(items)} readings imported.\n"
    export(tmp_path, other, format=wanted)
    assert file_of(tmp_path, other, wanted).read_bytes() == first.read_bytes()
    if wanted != "csv":
        assert history(other) == history(sensor)
        assert [list(map(type, r["measurements"].values())) for r in history(other)] == [
            list(map(type, r["measurements"].values())) for r in history(sensor)
        ]


@pytest.mark.parametrize("wanted", FORMATS)
def test_the_command_writes_what_the_server_answers(sensor, tmp_path, wanted):
    assert sensor.api.post("/telemetry/batch", {"readings": READINGS + MORE}).status == 201
    export(tmp_path, sensor, format=wanted)
    response = Client().get(
        f"/api/v1/telemetry/{sensor.id}/export",
        {"start_time": "0001-01-01", "format": wanted},
        headers={"x-api-key": sensor.key},
    )
    answer = b"".join(response.streaming_content)
    assert file_of(tmp_path, sensor, wanted).read_bytes() == answer


def test_an_export_without_readings_can_be_imported(sensor, other, tmp_path):
    for wanted in FORMATS:
        assert "0 readings exported" in export(tmp_path, sensor, format=wanted)
        assert load(file_of(tmp_path, sensor, wanted), other) == "0 readings imported.\n"


def test_a_range_and_fields_narrow_it(sensor, tmp_path):
    fill(sensor, 10)
    export(tmp_path, sensor, since=str(BEGIN + 3000), until=str(BEGIN + 4000), fields="a")
    lines = file_of(tmp_path, sensor, "ndjson").read_text().splitlines()
    assert [json.loads(line)["measurements"] for line in lines] == [{"a": 3}, {"a": 4}]


def test_every_device_has_its_file(sensor, other, tmp_path):
    fill(sensor, 3)
    out = io.StringIO()
    call_command("export_telemetry", str(tmp_path), all=True, format="csv", stdout=out)
    assert out.getvalue().startswith(f"3 readings exported into {tmp_path}: 2 files, ")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"device-{sensor.id}.csv",
        f"device-{other.id}.csv",
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "--device, or say --all"),
        ({"all": True, "device": ["1"]}, "--device, or say --all"),
        ({"all": True, "owner": "alice"}, "--owner goes with --device"),
        ({"device": ["nobody's"]}, "no device with the name or id “nobody's”"),
        ({"device": ["sensor"], "since": "soon"}, "--since: Use ISO 8601"),
        ({"device": ["sensor"], "fields": ",".join(map(str, range(101)))}, "at most 100"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(sensor, tmp_path, options, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("export_telemetry", str(tmp_path), **options)


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(sensor, tmp_path):
    path = file_of(tmp_path, sensor, "ndjson")
    path.write_text("mine")
    with pytest.raises(CommandError, match=r"is there already; --replace"):
        export(tmp_path, sensor)
    assert path.read_text() == "mine"
    export(tmp_path, sensor, replace=True)
    assert path.read_text() == ""


def test_a_directory_that_cannot_be_is_named(sensor, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="file cannot be used: File exists"):
        export(tmp_path / "file", sensor)


# --- Broken off and gone on ---------------------------------------------------------------------
def order(wanted, *devices):
    asked = {"since": None, "until": None}
    ids = [device.id for device in devices]
    return Order(wanted, [], ids, asked, BEGIN, BEGIN + 10**9)


def interrupted_after(count):
    """Ctrl-C, when so many readings were written."""
    seen = 0

    def advance(readings):
        nonlocal seen
        seen += readings
        if seen >= count:
            raise KeyboardInterrupt

    return advance


@pytest.mark.parametrize("wanted", FORMATS)
def test_what_was_interrupted_goes_on_and_nothing_is_there_twice(
    sensor, other, tmp_path, wanted, monkeypatch
):
    monkeypatch.setattr(Tables, "pages", 1)
    fill(sensor, 1300)
    fill(other, 1300)
    asked = order(wanted, sensor, other)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Archive(tmp_path, asked).run(interrupted_after(1250))
    assert not file_of(tmp_path, other, wanted).exists()
    archive = Archive(tmp_path, asked)
    assert archive.resumed
    assert archive.run(lambda readings: None) == 1
    assert archive.progress.readings == 2600
    names = {file_of(tmp_path, device, wanted).name for device in (sensor, other)}
    assert {path.name for path in tmp_path.iterdir()} == names

    whole = tmp_path / "whole"
    whole.mkdir()
    Archive(whole, asked).run(lambda readings: None)
    for device in (sensor, other):
        one, two = (file_of(place, device, wanted) for place in (tmp_path, whole))
        if wanted == "parquet":
            assert pq.read_table(one).equals(pq.read_table(two))
        else:
            assert one.read_bytes() == two.read_bytes()


def test_an_unfinished_export_is_not_mixed_with_another(sensor, tmp_path):
    fill(sensor, 1500)
    with pytest.raises(KeyboardInterrupt):
        Archive(tmp_path, order("csv", sensor)).run(interrupted_after(600))
    with pytest.raises(Unfit, match="unfinished export of something else"):
        Archive(tmp_path, order("ndjson", sensor))
    Archive(tmp_path, order("ndjson", sensor), replace=True).run(lambda readings: None)
    assert not (tmp_path / STATE).exists()


def test_a_part_that_is_gone_is_told(sensor, tmp_path):
    fill(sensor, 1500)
    with pytest.raises(KeyboardInterrupt):
        Archive(tmp_path, order("csv", sensor)).run(interrupted_after(600))
    (tmp_path / f"device-{sensor.id}.csv.part").unlink()
    with pytest.raises(Unfit, match=r"gone or shorter .* --replace"):
        Archive(tmp_path, order("csv", sensor)).run(lambda readings: None)


def test_an_import_goes_on_behind_its_bookmark_until_it_is_complete(sensor, tmp_path, settings):
    settings.VAR_DIR = tmp_path
    path = tmp_path / "readings.ndjson"
    lines = [{"timestamp": BEGIN + n, "measurements": {"a": n}} for n in range(5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    corrupt = tmp_path / "corrupt.parquet"
    corrupt.write_bytes(broken_table())

    with pytest.raises(CommandError, match=r"2,000 readings safely stored\..* --resume"):
        load(corrupt, sensor, time="t")
    out = io.StringIO()
    with pytest.raises(CommandError, match="cannot be read to its end"):
        call_command(
            "import_telemetry",
            str(corrupt),
            device=str(sensor.id),
            time="t",
            resume=True,
            stdout=out,
        )
    assert out.getvalue() == "Going on behind row 2,000.\n"
    assert load(path, sensor, resume=True) == "5 readings imported.\n"


def test_a_file_that_has_changed_has_no_bookmark(tmp_path, settings):
    settings.VAR_DIR = tmp_path
    path = tmp_path / "readings.csv"
    path.write_text("a")
    Bookmark(path, 1).keep(Place(17, 5))
    assert Bookmark(path, 1).read() == Place(17, 5)
    assert Bookmark(path, 2).read() is None
    path.write_text("ab")
    assert Bookmark(path, 1).read() is None


def test_several_groups_at_a_time_count_what_arrived_before_it_broke_off(sensor):
    def groups():
        for begin in range(0, 2000, 100):
            yield [Sample(BEGIN + n, {"a": n}) for n in range(begin, begin + 100)]
        raise KeyboardInterrupt

    backfill = Backfill(sensor.device)
    with pytest.raises(KeyboardInterrupt):
        list(backfill.write_all(groups()))
    assert backfill.stored == 2000
    assert [reading["measurements"]["a"] for reading in history(sensor)] == list(range(2000))


def test_of_one_time_the_last_in_the_file_counts_whichever_group_arrives_first(sensor):
    groups = [[Sample(BEGIN, {"a": n})] for n in range(50)]
    assert [group for group, _ in Backfill(sensor.device).write_all(groups)] == groups
    assert [reading["measurements"] for reading in history(sensor)] == [{"a": 49}]
    latest = sensor.api.get(f"/telemetry/{sensor.id}/latest").json
    assert latest["latest_data"] == {"a": 49}


def broken_table():
    """A Parquet file whose second row group cannot be decompressed."""
    times = pa.array(range(BEGIN, BEGIN + 4000))
    file = io.BytesIO()
    pq.write_table(
        pa.table({"t": times, "a": [n / 7 for n in range(4000)]}),
        file,
        row_group_size=2000,
        compression="zstd",
        use_dictionary=False,
    )
    content = bytearray(file.getvalue())
    begin = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    content[begin + 40 : begin + 4000] = bytes(3960)
    return bytes(content)
