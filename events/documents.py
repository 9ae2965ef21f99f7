"""Whole documents, out of their store and into it again, in order of their ids."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Field, Model

from events import sinks
from events.models import Alert, DeviceConfig, EventLog, ReportedConfig

MODELS: tuple[type[Model], ...] = (EventLog, DeviceConfig, ReportedConfig, Alert)
PAGE = 500
PAGE_SECONDS = 30.0
Row = Mapping[str, Any]


def rows(model: type[Model]) -> Iterator[Row]:
    """Every document by its fields' names, page by page. Raises StoreAway."""
    after = None
    while page := _page(model, after):
        yield from page
        after = page[-1][model._meta.pk.attname]


def insert(model: type[Model], found: list[Row]) -> None:
    """Store documents of `rows`, none of which may be there. Raises StoreAway."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    with sinks.guarded(PAGE_SECONDS):
        model._base_manager.bulk_create(
            model(**{name: fields[name].to_python(value) for name, value in row.items()})
            for row in found
        )


def is_empty(model: type[Model]) -> bool:
    with sinks.guarded(PAGE_SECONDS):
        return not model._base_manager.exists()


def empty(model: type[Model]) -> None:
    """Delete every document. Raises StoreAway."""
    with sinks.guarded(PAGE_SECONDS):
        if settings.EVENTS_EMBEDDED:
            model._base_manager.all()._raw_delete("events")
        else:
            _collection(model).delete_many({})


def _page(model: type[Model], after: Any) -> list[dict[str, Any]]:
    fields = model._meta.concrete_fields
    if settings.EVENTS_EMBEDDED:
        found = model._base_manager.order_by("pk")
        found = found if after is None else found.filter(pk__gt=after)
        return list(found.values(*(field.attname for field in fields))[:PAGE])
    with sinks.guarded(PAGE_SECONDS):
        # Not by Django's backend, which sorts all that is left before it gives the first.
        wanted = {} if after is None else {"_id": {"$gt": _stored(model, after)}}
        documents = list(_collection(model).find(wanted).sort("_id", 1).limit(PAGE))
    return [{field.attname: _value(field, one) for field in fields} for one in documents]


def _collection(model: type[Model]) -> Any:
    return connections["events"].database[model._meta.db_table]  # type: ignore[attr-defined]


def _stored(model: type[Model], value: Any) -> Any:
    return model._meta.pk.get_db_prep_value(value, connections["events"])


def _value(field: "Field[Any, Any]", document: Mapping[str, Any]) -> Any:
    column = str(field.column)
    if column not in document:
        return field.get_default()
    value = field.to_python(document[column])
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)  # MongoDB's are, and do not say so
    return value
