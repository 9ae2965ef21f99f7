"""Where telemetry is stored: one interface, Cassandra or the relational database behind it."""

from functools import lru_cache

from django.conf import settings

from telemetry.stores.base import Refused, TelemetryStore
from telemetry.stores.rollups import RollupStore

__all__ = ["Refused", "RollupStore", "TelemetryStore", "rollup_store", "telemetry_store"]


@lru_cache(maxsize=1)
def telemetry_store() -> TelemetryStore:
    """The store of this process. Nothing connects before it is used."""
    if settings.TELEMETRY_STORE == "cassandra":
        from telemetry.stores.cassandra import CassandraStore

        return CassandraStore()
    from telemetry.stores.sql import SqlStore

    return SqlStore()


@lru_cache(maxsize=1)
def rollup_store() -> RollupStore:
    """Where the rollups of this process are: beside the readings."""
    if settings.TELEMETRY_STORE == "cassandra":
        from telemetry.stores.rollups_cassandra import CassandraRollups

        return CassandraRollups()
    from telemetry.stores.rollups_sql import SqlRollups

    return SqlRollups()
