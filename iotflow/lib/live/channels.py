"""Channels in Redis: the newest entries of something that is listened to, each with its number.

A channel is a Redis stream that somebody listens to, or did so within STREAM_KEPT_SECONDS. Its
entries have ids `<born>-<number>`: `born` (µs, when it was made) is another one for each channel
that ever was, the number goes up by one. So whoever has seen entry n knows by the number of the
next one whether anything is missing between, whatever was trimmed, evicted or lost by a restart.

One hash says for every subject (the id of a device) which channels want what is written about it.
Whoever writes asks it in the pipeline that goes to Redis anyway, and sends only what is wanted. It
writes to channels that are there and never makes one; a name whose channel is gone is taken out.

An entry without a body is a break: something may be missing from here on. A channel begins with
one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.conf import settings

from iotflow.lib.redis import Script, key, redis

# Larger ones would make a thousand of them a matter of the memory of Redis: they are a break.
BODY_MAX = 16 * 1024
# As many entries as one call of a script takes.
AT_ONCE = 500
LISTENERS = "live"
# Keys: the hash, the channel. Arguments: its name, seconds to live, subjects. Answers its last id.
LISTEN = Script(
    """
local hash, channel, name = KEYS[1], KEYS[2], ARGV[1]
if redis.call('EXISTS', channel) == 0 then
    local now = redis.call('TIME')
    local first = string.format('%d%06d-1', now[1], now[2])
    redis.call('XADD', channel, first, 's', '', 't', '', 'd', '')
end
redis.call('EXPIRE', channel, ARGV[2])
for i = 3, #ARGV do
    local names = redis.call('HGET', hash, ARGV[i])
    if not names then
        redis.call('HSET', hash, ARGV[i], name)
    elseif not string.find(' ' .. names .. ' ', ' ' .. name .. ' ', 1, true) then
        redis.call('HSET', hash, ARGV[i], names .. ' ' .. name)
    end
end
return redis.call('XREVRANGE', channel, '+', '-', 'COUNT', 1)[1][1]
"""
)
# Keys: the hash. Arguments: what channels' keys begin with, how many entries one keeps, and of each
# entry its subject, time and body.
TELL = Script(
    """
local hash, start, most = KEYS[1], ARGV[1], ARGV[2]
for i = 3, #ARGV, 3 do
    local left, is_gone = {}, false
    for name in string.gmatch(redis.call('HGET', hash, ARGV[i]) or '', '%S+') do
        local channel = start .. name
        local last = redis.call('EXISTS', channel) == 1
            and redis.call('XREVRANGE', channel, '+', '-', 'COUNT', 1)[1]
        if last then
            local born, number = string.match(last[1], '^(%d+)-(%d+)$')
            redis.call('XADD', channel, 'MAXLEN', '~', most,
                born .. '-' .. string.format('%d', number + 1),
                's', ARGV[i], 't', ARGV[i + 1], 'd', ARGV[i + 2])
            left[#left + 1] = name
        else
            is_gone = true
        end
    end
    if is_gone and #left == 0 then
        redis.call('HDEL', hash, ARGV[i])
    elseif is_gone then
        redis.call('HSET', hash, ARGV[i], table.concat(left, ' '))
    end
end
"""
)


class Position(NamedTuple):
    """How far somebody has come: the channel, by when it was made, and the number of an entry."""

    born: int
    number: int

    def __str__(self) -> str:
        return f"{self.born}-{self.number}"


class Entry(NamedTuple):
    """What was written about a subject; `time` in ms, and an empty body for a break."""

    position: Position
    subject: int
    time: int
    body: bytes


class News(NamedTuple):
    """An entry before it has a position."""

    subject: int
    time: int
    body: bytes


def ask(pipe: Any, subjects: Sequence[int]) -> None:
    """Add to a pipeline, as one command: who listens to these? For each a text, or None."""
    pipe.hmget(key(LISTENERS), subjects)


def tell(client: Any, news: Iterable[News]) -> None:
    """Add to the channels that want it what was written, in this order."""
    arguments: list[Any] = []
    for one in news:
        body = one.body if len(one.body) <= BODY_MAX else b""
        arguments += (one.subject, one.time, body)
        if len(arguments) >= 3 * AT_ONCE:
            _tell(client, arguments)
            arguments = []
    if arguments:
        _tell(client, arguments)


def _tell(client: Any, arguments: list[Any]) -> None:
    TELL(client, [key(LISTENERS)], [key(LISTENERS, ""), settings.STREAM_KEPT, *arguments])


def interruption(subject: int) -> News:
    """Something about the subject may have been missed."""
    return News(subject, 0, b"")


def listen(name: str, subjects: Collection[int]) -> Position:
    """Have what is written about these go to the channel, made where it is not there; its last
    entry. Raises StoreAway.
    """
    arguments = [name, settings.STREAM_KEPT_SECONDS, *sorted(subjects)]
    with redis() as client:
        return _position(LISTEN(client, [key(LISTENERS), key(LISTENERS, name)], arguments))


def newer(positions: Mapping[str, Position], most: int) -> dict[str, list[Entry]]:
    """By channel what comes after its position, `most` entries at most; what has none is not in it.

    Raises StoreAway.
    """
    wanted = {key(LISTENERS, name): str(position) for name, position in positions.items()}
    with redis() as client:
        found = dict(client.xread(wanted, count=most) or ())
    start = len(key(LISTENERS, ""))
    return {channel.decode()[start:]: _entries(rows) for channel, rows in found.items()}


def between(name: str, after: Position, last: Position, most: int) -> list[Entry]:
    """Of a channel what comes after one position, up to another. Raises StoreAway."""
    first = Position(after.born, after.number + 1)
    with redis() as client:
        return _entries(client.xrange(key(LISTENERS, name), str(first), str(last), count=most))


def _entries(rows: Any) -> list[Entry]:
    return [
        Entry(
            _position(position), int(fields[b"s"] or 0), int(fields[b"t"] or 0), bytes(fields[b"d"])
        )
        for position, fields in rows
    ]


def _position(text: bytes) -> Position:
    born, _, number = text.decode().partition("-")
    return Position(int(born), int(number))
