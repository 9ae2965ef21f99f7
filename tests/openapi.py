"""The OpenAPI document, and answers held to it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker

from iotflow.schema import document

METHODS = ("get", "post", "put", "patch", "delete")
PARAMETER = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Operation:
    """One operation: its method (upper case), its path as a template, its node."""

    method: str
    path: str
    node: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Method and path, whatever its parameters are called."""
        return self.method, unnamed(self.path)

    def response(self, status: int) -> dict[str, Any]:
        """The response's node; AssertionError where this status is not documented."""
        node = self.node["responses"].get(str(status))
        assert node, f"{self.method} {self.path} does not document {status}"
        return resolved(node)


@cache
def operations() -> list[Operation]:
    return [
        Operation(method.upper(), path, item[method])
        for path, item in document()["paths"].items()
        for method in METHODS
        if method in item
    ]


def operation(method: str, path: str) -> Operation:
    """The operation that answers a request to this address (without its query)."""
    fitting = [
        one
        for one in operations()
        if one.method == method
        and re.fullmatch(PARAMETER.sub("[^/]+", one.path.replace(".", r"\.")), path)
    ]
    assert fitting, f"{method} {path} is not documented"
    return min(fitting, key=lambda one: one.path.count("{"))  # what is literal comes first


def unnamed(path: str) -> str:
    return PARAMETER.sub("{}", path)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` of the document leads to; anything else is itself."""
    while "$ref" in node:
        found: Any = document()
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def errors(schema: dict[str, Any], value: Any) -> list[str]:
    """How a value differs from a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    validator = OAS31Validator(whole, format_checker=oas31_format_checker)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def check(method: str, path: str, status: int, content_type: str, body: Any) -> None:
    """An answer is one that the document promises: status, media type, shape, no further fields."""
    node = operation(method, path).response(status)
    where = f"{method} {path} {status}"
    if "content" not in node:
        assert body == "", where
        return
    media = content_type.partition(";")[0]
    documented = {name.partition(";")[0] for name in node["content"]}
    assert media in documented, f"{where}: {media} is not documented"
    if media != "application/json":
        return
    schema = node["content"][media]["schema"]
    assert errors(schema, body) == [], where
    assert list(unknown(schema, body)) == [], f"{where}: fields that are not documented"


def unknown(schema: dict[str, Any], value: Any, path: str = "$") -> Iterator[str]:
    """Fields of the value that the schema does not name."""
    schema = resolved(schema)
    for branch in ("allOf", "oneOf", "anyOf"):
        for inner in schema.get(branch, []):
            if errors(inner, value) == []:
                yield from unknown(inner, value, path)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from unknown(schema["items"], item, f"{path}[{index}]")
    if not isinstance(value, dict) or schema.get("type") != "object":
        return
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties", not properties)
    for name, item in value.items():
        if name in properties:
            yield from unknown(properties[name], item, f"{path}.{name}")
        elif isinstance(rest, dict):
            yield from unknown(rest, item, f"{path}.{name}")
        elif not rest:
            yield f"{path}.{name}"
