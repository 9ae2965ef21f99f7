"""The one way to Redis: short time limits, a breaker, and one error of ours.

Everything kept there is derived from another store, so a caller of `redis()` decides what its
absence means. Embedded, it is fakeredis inside this process, which other processes do not see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from redis import RedisError

from iotflow.lib.breaker import Breaker

breaker = Breaker("Redis", RedisError, failures=1, pause=0.5)


def shared() -> bool:
    """Whether every process sees the same Redis. If not, it must not be trusted as a cache."""
    return not settings.REDIS_EMBEDDED


def key(*parts: object) -> str:
    """`iotflow:part:part`, under the prefix of this installation."""
    return ":".join((settings.REDIS_PREFIX, *map(str, parts)))


@contextmanager
def redis() -> Iterator[Any]:
    """redis-py's client; StoreAway when Redis is, at once where that is known already."""
    with breaker.guard():
        yield get_redis_connection("default")


def ping() -> str:
    """Name and version of what answers. Raises StoreAway."""
    with redis() as client:
        if settings.REDIS_EMBEDDED:
            client.ping()
            return "fakeredis, in this process"
        return f"Redis {client.info('server')['redis_version']}"
