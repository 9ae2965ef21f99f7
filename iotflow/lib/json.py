"""JSON in and out: strict where Python's own is lenient, orjson where it is exact."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

import orjson
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

INT64 = range(-(2**63), 2**63)
LONG_NUMBER = re.compile(rb"\d{19}")
# Of what is loaded: so much every recursion over it can take.
LEVELS_MAX = 300
Place = tuple[str | int, ...]  # the names and indexes that lead to a value


def dumps(value: Any, *, sort_keys: bool = False) -> bytes:
    """Compact UTF-8; integers beyond 64 bits, lone surrogates and depth over 254 raise TypeError.

    NaN and infinities become null: refuse them before.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)


def loads(text: bytes | str) -> Any:
    """Strict JSON, whole numbers exact to any size.

    Raises ValueError for anything RFC 8259 does not allow (NaN, Infinity, bad UTF-8, too deep).
    """
    value = _loads(text)
    if _may_be_deep(text) and _is_deep(value):
        raise ValueError("nested too deeply")
    return value


def _may_be_deep(text: bytes | str) -> bool:
    if isinstance(text, str):
        return text.count("[") + text.count("{") > LEVELS_MAX
    return text.count(b"[") + text.count(b"{") > LEVELS_MAX


def _is_deep(value: Any) -> bool:
    """Whether it is nested in more than LEVELS_MAX levels."""
    level = [value]
    for _ in range(LEVELS_MAX + 1):
        containers = [one for one in level if isinstance(one, dict | list)]
        if not containers:
            return False
        level = [
            inner
            for one in containers
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return True


def _loads(text: bytes | str) -> Any:
    # orjson turns whole numbers beyond 64 bits into floats: such texts are for Python's own
    # parser, as is what orjson refuses, some of which is valid (half a surrogate pair, a BOM).
    if isinstance(text, bytes) and not LONG_NUMBER.search(text):
        with suppress(ValueError):
            return orjson.loads(text)
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise ValueError("an integer has too many digits") from error
        raise


class StoredDecoder(json.JSONDecoder):
    """Of what PostgreSQL's jsonb gives back, to which 1e23 is a whole number like any other.

    What does not fit into 64 bits was a float, for no store here takes such an integer.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_int=_stored_number, **options)


def _stored_number(text: str) -> int | float:
    number = int(text) if len(text) < 21 else INT64.stop
    return number if number in INT64 else float(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def scalar_fault(value: Any) -> str:
    """Why some store would not give back a text, a number, a boolean or null as it was, or ""."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "A string must be valid Unicode; it has half of a surrogate pair."
    elif isinstance(value, int) and value not in INT64:
        return "An integer must fit into 64 bits."
    elif isinstance(value, float) and not math.isfinite(value):
        return "A number must be finite."
    return ""


def faults(
    value: Any,
    *,
    depth: int,
    name_fault: Callable[[str], str] = scalar_fault,
    value_fault: Callable[[Any], str] = scalar_fault,
    place: Place = (),
) -> Iterator[tuple[Place, str]]:
    """Where and why some store would not give back a JSON value as it was, in the value's order.

    Of what is nested deeper than `depth` levels nothing is looked at, and that is a fault too.
    """
    if not isinstance(value, dict | list):
        if reason := value_fault(value):
            yield place, reason
    elif len(place) >= depth:
        yield place, f"Is nested deeper than {depth} levels."
    else:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            here = (*place, name)
            if isinstance(name, str) and (reason := name_fault(name)):
                yield here, reason
            yield from faults(
                inner, depth=depth, name_fault=name_fault, value_fault=value_fault, place=here
            )


class JSONParser(BaseParser):
    """`application/json` bodies; what is not JSON is a 400 that says where."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            return loads(stream.read())
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from error


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 by its own definition

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        return orjson.dumps(data, default=str)
