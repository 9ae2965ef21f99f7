"""Cassandra's tables. `manage.py sync_cassandra` makes them; telemetry.stores.cassandra uses them.

Partitions stay small: a device's day, an owner's hour (in SHARDS parts), a device's latest
values. The two small tables of what exists spare queries the walk over empty days and hours.
"""

from cassandra.cqlengine import columns
from cassandra.cqlengine.models import Model

BY_DAY = {
    "compaction": {
        "class": "org.apache.cassandra.db.compaction.TimeWindowCompactionStrategy",
        "compaction_window_unit": "DAYS",
        "compaction_window_size": "1",
    }
}
BY_HOUR = {
    "compaction": {
        "class": "org.apache.cassandra.db.compaction.TimeWindowCompactionStrategy",
        "compaction_window_unit": "HOURS",
        "compaction_window_size": "6",
    }
}


class DeviceDataTable(Model):
    """Every value. `kind` names the column that holds it: rewritten with another type, the old
    column keeps its cell. The row with the empty key holds the reading's metadata.

    `day` is a day, or the number of a part of one: telemetry.stores.buckets.
    """

    __table_name__ = "device_data"
    __options__ = BY_DAY

    device_id = columns.BigInt(partition_key=True)
    day = columns.Date(partition_key=True)
    ts = columns.DateTime(primary_key=True, clustering_order="DESC")
    key = columns.Text(primary_key=True, clustering_order="ASC")
    kind = columns.Text()
    double_value = columns.Double()
    long_value = columns.BigInt()
    bool_value = columns.Boolean()
    text_value = columns.Text()


class DeviceDayTable(Model):
    """The days of which a device has data."""

    __table_name__ = "device_days"

    device_id = columns.BigInt(partition_key=True)
    day = columns.Date(primary_key=True, clustering_order="DESC")


class BucketLayoutTable(Model):
    """How wide partitions of history are, by version: telemetry.stores.buckets.

    Changed by `manage.py resize_buckets` only, and by lightweight transactions only.
    """

    __table_name__ = "bucket_layouts"

    of_table = columns.Text(partition_key=True)
    version = columns.Integer(primary_key=True, clustering_order="ASC")
    hours = columns.Integer()
    first_day = columns.Integer()
    state = columns.Text()
    passed = columns.BigInt()


class LatestDataTable(Model):
    """The newest value of each measurement, written at its event time.

    Cassandra keeps the cell with the newer timestamp, so a late reading never replaces a newer
    one. At equal timestamps it keeps the larger value: therefore the whole value is one cell that
    begins with `written`, and the last writing is the larger one. The parts are
    (written, kind, double, long, bool, text).
    """

    __table_name__ = "latest_data"

    device_id = columns.BigInt(partition_key=True)
    epoch = columns.Integer(partition_key=True)
    key = columns.Text(primary_key=True, clustering_order="ASC")
    ts = columns.DateTime()
    value = columns.Tuple(
        columns.BigInt(),
        columns.Text(),
        columns.Double(),
        columns.BigInt(),
        columns.Boolean(),
        columns.Text(),
    )


class UserDataTable(Model):
    """The newest readings across an owner's devices: one row a message, values as JSON texts."""

    __table_name__ = "user_data"
    __options__ = BY_HOUR

    user_id = columns.BigInt(partition_key=True)
    hour = columns.DateTime(partition_key=True)
    shard = columns.SmallInt(partition_key=True)
    ts = columns.DateTime(primary_key=True, clustering_order="DESC")
    device_id = columns.BigInt(primary_key=True, clustering_order="ASC")
    measurements = columns.Map(columns.Text(), columns.Text())


class UserHourTable(Model):
    """The hours, and the shards of them, in which an owner has readings."""

    __table_name__ = "user_hours"

    user_id = columns.BigInt(partition_key=True)
    hour = columns.DateTime(primary_key=True, clustering_order="DESC")
    shard = columns.SmallInt(primary_key=True, clustering_order="ASC")


class RollupTable(Model):
    """The summary (telemetry.summaries) of a measurement's values in an hour or a day from `ts`.

    `length` says which, in ms. `bucket` is the first day of the month for hours, of the year for
    days: what one measurement had in a month is 744 rows side by side.
    """

    __table_name__ = "rollups"
    __options__ = {
        "compaction": {"class": "org.apache.cassandra.db.compaction.LeveledCompactionStrategy"}
    }

    device_id = columns.BigInt(partition_key=True)
    length = columns.Integer(partition_key=True)
    bucket = columns.Date(partition_key=True)
    key = columns.Text(primary_key=True, clustering_order="ASC")
    ts = columns.DateTime(primary_key=True, clustering_order="ASC")
    summary = columns.Text()


class RollupBucketTable(Model):
    """The months and years of which a device has rollups; they may outlive its days."""

    __table_name__ = "rollup_buckets"

    device_id = columns.BigInt(partition_key=True)
    length = columns.Integer(primary_key=True, clustering_order="ASC")
    bucket = columns.Date(primary_key=True, clustering_order="ASC")


class RollupProgressTable(Model):
    """How far a device's rollups are, and its marks (telemetry.stores.rollups.Mark).

    A mark that comes to life again only costs a look: their tombstones may go as early as hints do.
    """

    __table_name__ = "rollup_progress"
    __options__ = {"gc_grace_seconds": 3 * 3600}

    device_id = columns.BigInt(partition_key=True)
    until = columns.DateTime(static=True)
    start = columns.DateTime(primary_key=True, clustering_order="ASC")
    stop = columns.DateTime(primary_key=True, clustering_order="ASC")
    deleted = columns.Boolean(primary_key=True)
    due = columns.DateTime()


TABLES = (
    DeviceDataTable,
    DeviceDayTable,
    BucketLayoutTable,
    LatestDataTable,
    UserDataTable,
    UserHourTable,
    RollupTable,
    RollupBucketTable,
    RollupProgressTable,
)
