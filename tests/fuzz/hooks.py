"""Loaded by schemathesis: leads its requests to what exists, and keeps a record of the answers."""

import itertools
import json
import os
import zlib
from pathlib import Path
from typing import Any

import schemathesis

SEED: dict[str, Any] = json.loads(Path(os.environ["FUZZ_SEED"]).read_text())
LOG = Path(os.environ["FUZZ_LOG"]).open("a", buffering=1)  # noqa: SIM115  (until the process ends)
_spare_tokens = itertools.cycle(SEED["spare_tokens"])


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Three times in four an id that exists, chosen by the value: a case can be repeated."""
    if not path_parameters:
        return path_parameters
    return {name: existing(name, value) for name, value in path_parameters.items()}


def existing(name: str, value: Any) -> Any:
    ids = SEED["ids"].get(name, [])
    number = zlib.crc32(repr(value).encode())
    return ids[number // 4 % len(ids)] if ids and number % 4 else value


@schemathesis.hook
def before_add_examples(context: Any, examples: list[Any]) -> None:
    """Where the path says it all, few cases are made: here is more of what exists."""
    operation = context.operation
    names = [parameter.name for parameter in operation.path_parameters]
    if operation.body or not names or not set(names) <= set(SEED["ids"]):
        return
    start = zlib.crc32(operation.label.encode())  # what one operation deletes another looks for
    for number in range(start, start + SEED["more"]):
        ids = {name: SEED["ids"][name][number % len(SEED["ids"][name])] for name in names}
        examples.append(operation.Case(path_parameters=ids))


@schemathesis.hook
def filter_headers(context: Any, headers: dict[str, Any]) -> bool:
    """Control characters are no HTTP: what speaks it refuses them before there is a request."""
    text = "".join(map(str, (headers or {}).values()))
    return not any(character < " " or character == "\x7f" for character in text)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Proves who asks; what ends the tokens of whoever asks is asked by somebody else each time."""
    name, value = SEED["proof"]
    ends_all = case.operation.label in SEED["ends_tokens"]
    token_id = (case.path_parameters or {}).get("token_id")
    if ends_all or str(token_id) == str(SEED["own_token_id"]):
        value = f"Bearer {next(_spare_tokens)}"
    case.headers[name] = value
    if case.operation.path.endswith("/devices/commands"):  # it would wait for one
        case.query = {
            name: 0 if str(value).isdecimal() else value
            for name, value in (case.query or {}).items()
        }
    if case.operation.path.endswith("/stream"):  # it would go on
        seconds = str((case.query or {}).get("seconds", "0"))
        if seconds.isdecimal() or not seconds:
            case.query = {**(case.query or {}), "seconds": 0}


@schemathesis.deserializer("text/event-stream")
def as_text(context: Any, response: Any) -> str:
    """As the schema describes it: OpenAPI 3.1 knows no items of a stream."""
    return response.content.decode()


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    LOG.write(f"{case.operation.label}\t{response.status_code}\n")
