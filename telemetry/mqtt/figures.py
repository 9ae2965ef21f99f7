"""What bridges count, noted in Redis for `GET /metrics` and `doctor`: they answer no requests."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from iotflow.lib import json
from iotflow.lib.errors import StoreAway
from iotflow.lib.redis import key, redis

FORGET_SECONDS = 3600.0
ABSENT_SECONDS = 15.0


@dataclass(slots=True)
class Figures:
    """Of one bridge since it began; `noted` in s since 1970."""

    noted: float = 0.0
    is_connected: bool = False
    held: int = 0  # messages that it has and has not acknowledged
    settled: dict[str, int] = field(default_factory=dict)  # messages, by what became of them
    retries: int = 0  # batches that were begun again, for a store was away
    dropped: int = 0  # messages that the broker has dropped for want of room, since it began

    def is_there(self, now: float) -> bool:
        return self.is_connected and now - self.noted < ABSENT_SECONDS


def note(name: str, figures: Figures) -> None:
    """Never fails: without Redis nobody would read it either."""
    figures.noted = time.time()
    with suppress(StoreAway), redis() as client:
        client.hset(_key(), name, json.dumps(asdict(figures)))


def bridges() -> Mapping[str, Figures]:
    """Those heard of in the last hour, by name. Raises StoreAway."""
    with redis() as client:
        noted = client.hgetall(_key())
    since = time.time() - FORGET_SECONDS
    found = {name.decode(): _read(json.loads(text)) for name, text in noted.items()}
    return {name: one for name, one in found.items() if one.noted > since}


def _read(noted: Mapping[str, Any]) -> Figures:
    """Of whatever version of this program."""
    names = {one.name for one in fields(Figures)}
    return Figures(**{name: value for name, value in noted.items() if name in names})


def _key() -> str:
    return key("mqtt", "bridges")
