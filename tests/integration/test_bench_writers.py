"""What the benchmark writes past the server is what the application reads."""

import pytest
from django.conf import settings

from iotflow.lib.timeparse import now_ms
from telemetry.readings import HistoryQuery
from telemetry.stores import telemetry_store
from telemetry.stores.cql import PROFILE, Cql
from tests.bench import filling, ledger, limit

pytestmark = pytest.mark.real


def test_a_history_written_past_the_server_is_read_as_any_other():
    history = filling.History(910_000_001, 910_000_000, count=250, step=600_000, end=now_ms())
    writer = filling._Writer()
    writer.write(history)
    writer.finish([history])
    query = HistoryQuery(history.device_id, 0, history.end, limit=1000)
    readings = telemetry_store().history(query).readings
    assert [reading.time for reading in readings] == list(reversed(history.times()))
    for reading in readings:
        assert reading.values == {
            name: value(reading.time) for name, _, _, value in filling.MEASUREMENTS
        }
    place = (history.device_id, 0)
    latest = telemetry_store().latest([place])[place]
    assert {value.time for value in latest.values()} == {history.end}
    wanted = {history.device_id: set(history.times())}
    assert ledger.stored(wanted) == wanted


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_the_bare_driver_writes_all_three_tables(kind):
    bare = limit.Limit(seconds=0.1)
    assert bare.measure(kind) > 0
    device, last = limit.DEVICES[0], bare._time
    assert ledger.stored({device: {last}})[device]
    session = Cql({}).session()
    for table, owner in (("latest_data", device), ("user_data", limit.OWNER)):
        column = "device_id" if table == "latest_data" else "user_id"
        [row] = session.execute(
            f"SELECT COUNT(*) FROM {settings.CASSANDRA_KEYSPACE}.{table} "
            f"WHERE {column} = {owner} ALLOW FILTERING",
            execution_profile=PROFILE,
        )
        assert row[0] > 0, table
