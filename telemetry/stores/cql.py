"""The process's one session of Cassandra, and prepared statements on it."""

import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any

from cassandra import DriverException, InvalidRequest
from cassandra.cluster import NoHostAvailable, ResponseFuture, ResultSet, Session
from cassandra.connection import ConnectionException
from cassandra.cqlengine import CQLEngineException
from django.conf import settings
from django.db import connections

from iotflow.lib.batches import batched
from iotflow.lib.errors import StoreAway

logger = logging.getLogger(__name__)

PROFILE = "telemetry"  # rows as tuples; made in the settings
REQUEST_SECONDS = 1.0
READ_SECONDS = 5.0
FETCH_ROWS = 2000
IN_FLIGHT = 32
PREPARED_AT_ONCE = 8
AWAY = (DriverException, NoHostAvailable, ConnectionException, CQLEngineException, OSError)
# Reads that take long by themselves: asked of a second node too, they would load both. And what
# is done once only.
LONG = re.compile("ALLOW FILTERING|COUNT|GROUP BY|DISTINCT| IF ")
_opening = threading.Lock()
TTL_MAX = 20 * 365 * 86_400
EXPIRY_END = 2**31 - 2 * 86_400  # in s since 1970
Row = tuple[Any, ...]
Bound = Any


class Cql:
    """Statements by name, with `{ks}` for the keyspace, prepared when first needed.

    What Cassandra raises when it does not answer is in AWAY; tables that are not there are
    StoreAway.
    """

    def __init__(self, statements: Mapping[str, str]) -> None:
        self.prepared: dict[str, Any] = {}
        self._statements = statements
        self._lock = threading.Lock()
        self._session: Session | None = None

    def session(self) -> Session:
        """The process's session, the statements prepared; opened by whoever needs it first."""
        if self._session is None:
            with self._lock:
                if self._session is None:
                    self._session = self._connect()
        return self._session

    def read(self, statement: str, *parameters: Any) -> Iterator[Row]:
        return rows_of(self.execute(statement, *parameters, timeout=READ_SECONDS))

    def one(self, statement: str, *parameters: Any) -> int:
        [(number,)] = self.read(statement, *parameters)
        return int(number)

    def execute(
        self, statement: str, *parameters: Any, timeout: float = REQUEST_SECONDS
    ) -> ResultSet:
        session = self.session()
        bound = self.prepared[statement].bind(parameters)
        return session.execute(bound, timeout=timeout, execution_profile=PROFILE)

    def begin(self, statement: str, *parameters: Any, fetch: int) -> ResponseFuture:
        """Begin to read, `fetch` rows at a time."""
        session = self.session()
        bound = self.prepared[statement].bind(parameters)
        bound.fetch_size = fetch
        return session.execute_async(bound, timeout=READ_SECONDS, execution_profile=PROFILE)

    def execute_all(self, statements: Iterable[tuple[Any, ...]]) -> None:
        """Execute each (statement, *parameters), IN_FLIGHT of them at once; wait for every one."""
        session = self.session()
        for chunk in batched(statements, IN_FLIGHT):
            futures = [
                session.execute_async(
                    self.prepared[name].bind(parameters),
                    timeout=REQUEST_SECONDS,
                    execution_profile=PROFILE,
                )
                for name, *parameters in chunk
            ]
            for future in futures:
                future.result()

    def _connect(self) -> Session:
        session = open_session()
        keyspace = settings.CASSANDRA_KEYSPACE
        texts = [statement.format(ks=keyspace) for statement in self._statements.values()]
        try:
            # Some at a time: dozens of round trips, one after another, take long where one does.
            with ThreadPoolExecutor(max_workers=PREPARED_AT_ONCE) as executor:
                for name, prepared in zip(
                    self._statements, executor.map(session.prepare, texts), strict=True
                ):
                    prepared.fetch_size = FETCH_ROWS
                    # Then the driver asks a second node when the first is slow. Every write may be
                    # sent twice: it carries its own time, or that of its first sending.
                    prepared.is_idempotent = not LONG.search(prepared.query_string)
                    self.prepared[name] = prepared
        except InvalidRequest as error:
            logger.error("Cassandra has no tables yet; run manage.py setup_stores: %s", error)
            raise StoreAway("Cassandra") from error
        return session


def rows_of(found: ResultSet) -> Iterator[Row]:
    """The rows, page by page; each page is let go at its end.

    A future of the driver and its timer hold each other: its rows would stay until the collector
    comes by, and a long read fills memory faster than that. Each page is asked for anew, for the
    driver's own way to the next one has no time limit.
    """
    while True:
        rows = found.current_rows
        try:
            yield from rows
        finally:
            rows.clear()
        if not found.has_more_pages:
            return
        future = found.response_future
        found = future.session.execute(
            future.query,
            timeout=READ_SECONDS,
            execution_profile=PROFILE,
            paging_state=found.paging_state,
        )


def open_session() -> Session:
    """The process's one session, as django-cassandra-engine registers it with cqlengine.

    Opened in a thread of its own: Django keeps connections per thread and would try to reconnect
    this one at the start and the end of every request of a thread that has ever touched it.
    One at a time: while it connects for one thread, cqlengine has None for every other.
    """
    with _opening, ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(lambda: connections["cassandra"].connection.session).result()


def ttl_of(expires: int | None, now: int) -> int | None:
    """How many seconds a value has to live; 0 for ever, None where it has expired.

    Cassandra refuses to expire anything after 20 years, or after 2038: that is kept for ever too,
    until a purge by policy.
    """
    if expires is None:
        return 0
    if expires <= now:
        return None
    left = ceil((expires - now) / 1000)
    return left if left <= TTL_MAX and expires // 1000 < EXPIRY_END else 0
