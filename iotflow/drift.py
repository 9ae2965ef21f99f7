"""Tables, columns and indexes that are missing though every migration is applied."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from django.apps import apps
from django.db import connections, router
from django.db.models import Model

from events import sinks
from iotflow.lib.findings import Finding, ok, problem

OURS = ("accounts", "devices", "events", "telemetry")
NAMED = 5
SECONDS = 30.0
MEND = "It was dropped by hand or never made: make it anew, or restore the database."


def schema() -> Iterator[Finding]:
    """What the relational database and the event log lack."""
    for alias in ("default", "events"):
        with sinks.guarded(SECONDS) if alias == "events" else nullcontext():
            lacking = [text for model in _models(alias) for text in missing(alias, model)]
        if alias == "events" and sinks.lacks_expiry():
            yield problem(
                "The event log lacks the index by which it expires.", "Run `setup_stores`."
            )
        if lacking:
            more = ", …" if len(lacking) > NAMED else ""
            yield problem(f"Database “{alias}” lacks {', '.join(lacking[:NAMED])}{more}.", MEND)
        else:
            yield ok(f"Database “{alias}” has every table, column and index.")


def missing(alias: str, model: type[Model]) -> Iterator[str]:
    """What of a model's table is not there."""
    connection, table = connections[alias], model._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            yield f"table {table}"
            return
        if alias == "default" or connection.vendor == "sqlite":
            found: Any = connection.introspection.get_table_description(cursor, table)
            columns = {column.name for column in found}
            wanted = {str(field.column) for field in model._meta.concrete_fields}
            yield from (f"column {table}.{name}" for name in sorted(wanted - columns))
        known = connection.introspection.get_constraints(cursor, table)
    named = [*model._meta.indexes, *model._meta.constraints]
    yield from (f"index {one.name}" for one in named if one.name not in known)


def _models(alias: str) -> list[type[Model]]:
    return [
        model
        for model in apps.get_models()
        if model._meta.app_label in OURS
        and model._meta.managed
        and router.allow_migrate_model(alias, model)
    ]
