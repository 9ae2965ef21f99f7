"""The backend that DATABASES names: Django's own, under a breaker.

While the server is away, who needs it learns so at once; one of them tries again every half second.
Either way Django's OperationalError is raised, which is a 503.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from django.db import OperationalError
from django.db.backends.postgresql import base

from iotflow.lib.breaker import Breaker
from iotflow.lib.errors import StoreAway

# Of the classes of SQLSTATE: the connection is broken, the server shuts down or starts.
AWAY = ("08", "57P")
# Several: that one connection breaks, or that there are too many, is no absence of the server.
breaker = Breaker("The database", failures=3, pause=0.5)


class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(_execute)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        with guarded():
            return super().get_new_connection(conn_params)

    def is_usable(self) -> bool:
        # What was opened before the server went away is not waited for a second time.
        return not breaker.is_open and super().is_usable()


@contextmanager
def guarded() -> Iterator[None]:
    """Talk to the server: OperationalError at once where it is known to be away."""
    try:
        breaker.admit()
    except StoreAway as error:
        raise OperationalError(str(error)) from error
    try:
        yield
    except (psycopg2.OperationalError, OperationalError) as error:
        if _is_away(error):
            breaker.fail(error)
        else:
            breaker.abstain()
        raise
    except BaseException:
        breaker.abstain()
        raise
    breaker.succeed()


def _execute(execute: Any, sql: Any, parameters: Any, many: bool, context: Any) -> Any:
    with guarded():
        return execute(sql, parameters, many, context)


def _is_away(error: Exception) -> bool:
    """Whether the server was not reached; a statement that it refused or cut short has a code."""
    of_driver = error.__cause__ or error
    code = getattr(of_driver, "pgcode", None)
    return code is None or code.startswith(AWAY)
