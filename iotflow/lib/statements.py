"""How long the relational database takes for each statement, by Django's own hook."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from iotflow.lib import tracing
from iotflow.lib.metrics import STORE_CALLS

RELATIONAL = ("postgresql", "sqlite")


def time_all() -> None:
    """Time the statements of every connection that is opened from now on."""
    connection_created.connect(_time, dispatch_uid=__name__)


def _time(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor in RELATIONAL and _timed not in connection.execute_wrappers:
        connection.execute_wrappers.append(_timed)


def _timed(execute: Callable[..., Any], *arguments: Any) -> Any:
    started = perf_counter()
    try:
        with tracing.span("database"):
            return execute(*arguments)
    finally:
        STORE_CALLS.observe(perf_counter() - started, "database", "all")
