"""However many readings there are, an export and an import of them take the same memory."""

import gc
import io
import tracemalloc

import pyarrow as pa
import pytest
from django.core.management import call_command
from django.http import QueryDict

from telemetry import exports, importing, parquet
from telemetry.backfill import Backfill, Sample
from telemetry.encoders import Csv, Ndjson
from telemetry.parameters import parse_export
from telemetry.parquet import Parquet
from telemetry.readings import StoredReading

BEGIN = 1_700_000_000_000
FEW, MANY, RATIO = 3000, 10_000, 1.3


@pytest.fixture
def filled(sensor):
    backfill = Backfill(sensor.device)
    for begin in range(0, MANY, 1000):
        numbers = range(begin, begin + 1000)
        backfill.write([Sample(BEGIN + n, {"a": n, "b": f"text {n}"}) for n in numbers])
    return sensor


def peak(function):
    """The most memory that it had at a time, beyond what there was before."""
    gc.collect()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_export(device, wanted, count):
    text = f"format={wanted}&start_time={BEGIN}&end_time={BEGIN + count - 1}"
    asked = parse_export(QueryDict(text))
    size = 0
    for chunk in exports.export(device.id, 0, asked):
        size += len(chunk)
        assert pa.total_allocated_bytes() < 5_000_000
    assert size > count


def test_an_export(filled, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 2000)
    for wanted in ("csv", "ndjson", "parquet"):
        read_export(filled, wanted, FEW)  # what is imported and cached at the first time
        few, many = (
            peak(lambda count=count, wanted=wanted: read_export(filled, wanted, count))
            for count in (FEW, MANY)
        )
        assert many <= RATIO * few, (wanted, few, many)


@pytest.mark.parametrize("wanted", ["csv", "ndjson", "parquet"])
def test_reading_a_file_to_import(sensor, tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(parquet, "ROW_GROUP", 2000)
    monkeypatch.setattr(importing, "RECENT", 1000)

    def load(count):
        call_command(
            "import_telemetry",
            str(tmp_path / f"{count}.{wanted}"),
            device=str(sensor.id),
            dry_run=True,
            stdout=io.StringIO(),
        )

    few, many = 3000, 9000  # more than the times that a tally remembers
    for count in (few, many):
        write_file(tmp_path / f"{count}.{wanted}", wanted, count)
    load(few)  # what is imported and cached at the first time
    assert peak(lambda: load(many)) <= RATIO * peak(lambda: load(few))


def write_file(path, wanted, count):
    encoder = {"csv": Csv(["a"]), "ndjson": Ndjson(), "parquet": Parquet()}[wanted]
    with path.open("wb") as file:
        file.write(encoder.begin())
        for begin in range(0, count, 1000):
            numbers = range(begin, begin + 1000)
            file.write(encoder.encode([StoredReading(BEGIN + n, {"a": n}) for n in numbers]))
        file.write(encoder.end())
