"""The one way to Redis: short time limits, a breaker, and one error of ours.

Everything kept there is derived from another store, so a caller of `redis()` decides what its
absence means. Embedded, it is fakeredis inside this process, which other processes do not see.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from django.conf import settings
from django_redis import get_redis_connection
from redis import RedisError
from redis.exceptions import NoScriptError

from iotflow.lib.batches import batched
from iotflow.lib.breaker import Breaker

PREFIX = settings.REDIS_PREFIX  # read once: every message makes a dozen keys
breaker = Breaker("Redis", RedisError, failures=1, pause=0.5)


def shared() -> bool:
    """Whether every process sees the same Redis. If not, it must not be trusted as a cache."""
    return not settings.REDIS_EMBEDDED


def key(*parts: object) -> str:
    """`iotflow:part:part`, under the prefix of this installation."""
    return ":".join((PREFIX, *map(str, parts)))


@contextmanager
def redis() -> Iterator[Any]:
    """redis-py's client; StoreAway when Redis is, at once where that is known already."""
    with breaker.guard():
        yield _client()


@lru_cache(maxsize=1)
def _client() -> Any:
    """The process's client; django-redis looks it up anew for every thread and call."""
    return get_redis_connection("default")


class Script:
    """Lua that runs in Redis as one step, sent by its digest once Redis knows it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Any, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """What it returns. Also two round trips, where Redis has begun anew."""
        try:
            return client.execute_command("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.execute_command("EVAL", self._text, len(keys), *keys, *arguments)


def ping() -> str:
    """Name and version of what answers. Raises StoreAway."""
    with redis() as client:
        if settings.REDIS_EMBEDDED:
            client.ping()
            return "fakeredis, in this process"
        return f"Redis {client.info('server')['redis_version']}"


def clock() -> int | None:
    """The server's time in ms; None where it is in this process. Raises StoreAway."""
    if settings.REDIS_EMBEDDED:
        return None
    with redis() as client:
        seconds, micros = client.time()
        return int(seconds) * 1000 + int(micros) // 1000


def forget_everything() -> None:
    """Delete every key of this installation. Raises StoreAway."""
    with redis() as client:
        for found in batched(client.scan_iter(match=key("*"), count=1000), 1000):
            client.unlink(*found)
