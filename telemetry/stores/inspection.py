"""What Cassandra tells of itself: its tables as they are, its largest partitions, its clock."""

from collections.abc import Iterator, Mapping
from typing import Any

from cassandra.cluster import Session
from django.conf import settings

from telemetry.stores.cql import PROFILE, REQUEST_SECONDS
from telemetry.tables import TABLES

MEBIBYTE = 1 << 20
GC_GRACE_SECONDS = 864_000  # Cassandra's own, where telemetry.tables says nothing
LARGEST = """SELECT mebibytes FROM system_views.max_partition_size
    WHERE keyspace_name = %s AND table_name = %s"""
CLOCK = "SELECT to_unix_timestamp(now()) FROM system.local"


def faults(known: Mapping[str, Any]) -> list[str]:
    """What the tables lack of what `telemetry.tables` says, so that nothing can be stored."""
    return [fault for model in TABLES for fault in _lacking(model, known)]


def drift(known: Mapping[str, Any]) -> list[str]:
    """What is other than `telemetry.tables` says of the tables that are there."""
    there = [model for model in TABLES if model.__table_name__ in known]
    return [fault for model in there for fault in _other(model, known[model.__table_name__])]


def largest_partitions(session: Session) -> dict[str, int]:
    """Bytes of the largest partition by table, on any node that is up, of what is on its disk."""
    found: dict[str, int] = {}
    for host in session.cluster.metadata.all_hosts():
        for model in TABLES if host.is_up else ():
            place = settings.CASSANDRA_KEYSPACE, model.__table_name__
            rows = session.execute(
                LARGEST, place, timeout=REQUEST_SECONDS, execution_profile=PROFILE, host=host
            )
            for (mebibytes,) in rows:
                size = int(float(mebibytes) * MEBIBYTE)
                found[place[1]] = max(size, found.get(place[1], 0))
    return found


def clock(session: Session) -> int:
    """The time in ms by whichever node is asked."""
    [(now,)] = session.execute(CLOCK, timeout=REQUEST_SECONDS, execution_profile=PROFILE)
    return int(now)


def _lacking(model: Any, known: Mapping[str, Any]) -> Iterator[str]:
    name = model.__table_name__
    if name not in known:
        yield f"There is no table {name}."
        return
    missing = [column for column in model._columns if column not in known[name].columns]
    if missing:
        yield f"Table {name} lacks {', '.join(missing)}."


def _other(model: Any, table: Any) -> Iterator[str]:
    name = model.__table_name__
    for column, wanted in model._columns.items():
        found = table.columns.get(column)
        if found is not None and _plain(found.cql_type) != _plain(wanted.db_type):
            yield f"Column {column} of table {name} is {found.cql_type}, not {wanted.db_type}."
    order = [(column.name, bool(column.is_reversed)) for column in table.clustering_key]
    if order != _clustering(model):
        yield f"Table {name} has other clustering columns, or in another order."
    if table.options.get("default_time_to_live"):
        yield f"Table {name} has default_time_to_live: what is kept for ever would expire."
    options = model.__options__ or {}
    grace = options.get("gc_grace_seconds", GC_GRACE_SECONDS)
    if table.options.get("gc_grace_seconds") != grace:
        yield (
            f"Table {name} has gc_grace_seconds {table.options.get('gc_grace_seconds')}, not "
            f"{grace}."
        )
    yield from _compaction(name, options.get("compaction", {}), table.options.get("compaction", {}))


def _compaction(name: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for option, value in wanted.items():
        is_value = str(found.get(option, "")).rpartition(".")[2]
        if is_value != value.rpartition(".")[2]:
            yield f"Table {name} is compacted with {option} {is_value or 'unset'}, not {value}."


def _clustering(model: Any) -> list[tuple[str, bool]]:
    return [
        (name, column.clustering_order.upper() == "DESC" if column.clustering_order else False)
        for name, column in model._clustering_keys.items()
    ]


def _plain(cql_type: str) -> str:
    """`tuple<bigint, text>` and `frozen<tuple<bigint,text>>` are the same."""
    plain = cql_type.replace(" ", "").lower()
    return plain.removeprefix("frozen<").removesuffix(">") if plain.startswith("frozen") else plain
