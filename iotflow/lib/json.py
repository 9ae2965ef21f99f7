"""JSON in and out: strict where Python's own is lenient, orjson where it is exact."""

import json
from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer


def dumps(value: Any) -> bytes:
    """Compact UTF-8; integers beyond 64 bits, lone surrogates and depth over 254 raise TypeError.

    NaN and infinities become null: refuse them before.
    """
    return orjson.dumps(value)


def loads(text: bytes | str) -> Any:
    """Strict JSON, whole numbers exact to any size (orjson turns those beyond 64 bits to floats).

    Raises ValueError for anything RFC 8259 does not allow (NaN, Infinity, bad UTF-8, too deep).
    """
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


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


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
