"""Where telemetry is stored: one interface, Cassandra or the relational database behind it."""

from functools import lru_cache

from django.conf import settings

from telemetry.stores.base import Refused, TelemetryStore

__all__ = ["Refused", "TelemetryStore", "telemetry_store"]


@lru_cache(maxsize=1)
def telemetry_store() -> TelemetryStore:
    """The store of this process. Nothing connects before it is used."""
    if settings.TELEMETRY_STORE == "cassandra":
        from telemetry.stores.cassandra import CassandraStore

        return CassandraStore()
    from telemetry.stores.sql import SqlStore

    return SqlStore()
