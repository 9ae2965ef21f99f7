"""The OpenAPI document: what every operation shares, so that no view has to say it."""

import re
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema as BaseSchema
from drf_spectacular.plumbing import is_serializer
from drf_spectacular.utils import Direction
from rest_framework.permissions import SAFE_METHODS, AllowAny, IsAuthenticated

from accounts.authentication import StaffSession
from accounts.permissions import IsUser
from devices.authentication import ApiKeyAuthentication, IsDevice
from iotflow.examples import ERRORS, REQUESTS, RESPONSES
from iotflow.lib.errors import Error

# The same views answer at the root, where they are documented.
ALIASES = {"/api/v1/health", "/api/v1/status"}
JSON = "application/json"
PREFIX = re.compile(r"^(/api/v1|/api)?/")

MEANINGS = {
    400: "Not accepted as sent; `details` names every field at fault.",
    401: "No proof of who is calling, or one that is unknown or has ended.",
    403: "Known, and not allowed.",
    404: "Not there, or not yours to see.",
    406: "The client accepts none of the media types there are.",
    409: "It contradicts what is stored already.",
    413: "The body is larger than `MAX_BODY_BYTES`.",
    415: "The body is of a media type that is not taken here.",
    429: "Too many requests.",
    503: "A store that the answer needs is away; nothing was promised.",
}
RETRY_AFTER = {
    "Retry-After": {
        "description": "Whole seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
CHALLENGE = {
    "WWW-Authenticate": {
        "description": "The scheme to authenticate by.",
        "required": True,
        "schema": {"type": "string"},
    }
}
HEADERS = {401: CHALLENGE, 429: RETRY_AFTER, 503: RETRY_AFTER}
PATH_PARAMETERS = {
    "user_id": "The public id of a user, a UUID: `user_id` in their profile.",
    "device_id": "The `id` of a device.",
    "group_id": "The `id` of a group.",
    "key_id": "The `id` of a key of the device.",
    "event_id": "The `id` of an event, a UUID.",
    "command_id": "The `id` of a command, a UUID.",
    "token_id": "The `id` of one of your tokens.",
    "rule_id": "The `id` of an alert rule.",
    "alert_id": "The `id` of an alert, a UUID.",
    "channel_id": "The `id` of a notification channel.",
    "delivery_id": "The `id` of a delivery, a UUID.",
}
TAGS = {
    "auth": "Registering, logging in and out.",
    "users": "Profiles, and what staff do with them.",
    "devices": "Devices, as they see themselves and as their owners do.",
    "telemetry": "Readings: submitted by devices, read by devices, owners and staff.",
    "commands": "What devices are asked to do, and what came of it.",
    "groups": "Devices put together by their owner.",
    "alert-rules": "What is to be watched.",
    "alerts": "What was found, and who looks after it.",
    "notification-channels": "Who is told of alerts, and how that went.",
    "deliveries": "What was told.",
    "events": "What happened.",
    "admin": "What staff see of anybody's devices and do to them.",
    "system": "Health, status, metrics, and this document.",
}

Node = dict[str, Any]
_lock = threading.Lock()  # drf-spectacular's first time is not safe among threads


class AutoSchema(BaseSchema):
    """Ids, summaries, tags and error answers by one rule for all operations."""

    # Whom these let in, authentication decides; any other permission may refuse who is known.
    NEVER_403: ClassVar = {AllowAny, IsAuthenticated, IsUser, IsDevice}

    def get_operation_id(self) -> str:
        """`get_device_groups` for GET /api/v1/devices/{device_id}/groups."""
        words = [self.method.lower()]
        for part in _parts(self.path):
            if not part.startswith("{"):
                words.append(part.replace("-", "_"))
            elif words[-1].endswith("s"):
                words[-1] = words[-1].removesuffix("s")
        return "_".join(words)

    def get_tags(self) -> list[str]:
        noun = next(iter(_parts(self.path)), "")
        return [noun if noun in TAGS else "system"]

    def get_operation(self, *args: Any) -> Node | None:
        operation: Node | None = super().get_operation(*args)
        if operation is None:
            return None
        # The first sentence of a docstring is the summary, the rest the description.
        text = " ".join(operation.pop("description", "").split())
        summary, _, rest = re.sub(r"(?<=\.) ", "\n", text, count=1).partition("\n")
        operation["summary"] = operation.get("summary", summary)
        if rest:
            operation["description"] = rest
        self.resolve_serializer(Error, "response")
        for status in self._errors(operation):
            operation["responses"].setdefault(str(status), {})
        return operation

    def get_request_serializer(self) -> Any:
        """Where a view says nothing; of a deletion that means no body."""
        return None if self.method == "DELETE" else super().get_request_serializer()

    def _get_request_body(self, direction: Direction = "request") -> Node | None:
        """A deletion may have a body here."""
        if self.method != "DELETE":
            body: Node | None = super()._get_request_body(direction)
            return body
        serializer = self.get_request_serializer()
        if serializer is None:
            return None
        schema, required = self._get_request_for_media_type(serializer, direction)
        return {"content": {JSON: {"schema": schema}}, "required": required}

    def _get_response_bodies(self, direction: Direction = "response") -> Node:
        """A deletion is answered 200 with a message here, not 204 with nothing."""
        serializer = self.get_response_serializers()
        if self.method == "DELETE" and is_serializer(serializer):
            return {"200": self._get_response_for_code(serializer, "200", direction=direction)}
        bodies: Node = super()._get_response_bodies(direction)
        return bodies

    def _resolve_path_parameters(self, variables: list[str]) -> list[Node]:
        parameters: list[Node] = super()._resolve_path_parameters(variables)
        for parameter in parameters:
            parameter["description"] = PATH_PARAMETERS[parameter["name"]]
        return parameters

    def _errors(self, operation: Node) -> Iterator[int]:
        """What any operation of this kind may answer; a view itself says where 409 is possible."""
        authenticators = {type(one) for one in self.view.get_authenticators()}
        yield from (400, 406, 429)
        if authenticators:
            yield 401
        if self._may_be_forbidden(authenticators):
            yield 403
        if "{" in self.path or authenticators == {ApiKeyAuthentication}:
            yield 404
        if "requestBody" in operation:
            yield from (413, 415)
        if authenticators or self.method != "GET":
            yield 503

    def _may_be_forbidden(self, authenticators: set[type]) -> bool:
        if StaffSession in authenticators and self.method not in SAFE_METHODS:
            return True  # without the CSRF token
        return bool({type(one) for one in self.view.get_permissions()} - self.NEVER_403)


def document() -> Node:
    """The whole document, made once in a process: it takes a second, and threads to wait for it."""
    with _lock:
        return _document()


@cache
def _document() -> Node:
    made: Node = SchemaGenerator().get_schema(public=True)
    return made


def without_aliases(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's preprocessing hook."""
    return [endpoint for endpoint in endpoints if endpoint[0] not in ALIASES]


def completed(result: Node, generator: Any, request: Any, public: bool) -> Node:
    """drf-spectacular's postprocessing hook: pages, shared error answers, examples, tags."""
    result["paths"] = {**PAGES, **result["paths"]}
    result["components"]["responses"] = {
        f"Error{status}": _error(status, meaning) for status, meaning in MEANINGS.items()
    }
    for path in result["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            shared = {
                status: _shared(status) for status in responses if _is_error(responses[status])
            }
            operation["responses"] = dict(sorted({**responses, **shared}.items()))
            _add_examples(operation)
    result["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    return result


def _parts(path: str) -> list[str]:
    return [part for part in PREFIX.sub("", path).split("/") if part]


def _error(status: int, meaning: str) -> Node:
    content = {"schema": {"$ref": "#/components/schemas/Error"}, "example": ERRORS[status]}
    headers = {"headers": HEADERS[status]} if status in HEADERS else {}
    return {"description": meaning, **headers, "content": {JSON: content}}


def _shared(status: str) -> Node:
    return {"$ref": f"#/components/responses/Error{status}"}


def _is_error(response: Node) -> bool:
    """Whether it is an error without a shape of its own."""
    content = response.get("content", {}).get(JSON, {})
    return not response or content.get("schema", {}).get("$ref", "").endswith("/Error")


def _add_examples(operation: Node) -> None:
    name = operation["operationId"]
    if name in REQUESTS:
        operation["requestBody"]["content"][JSON]["example"] = REQUESTS[name]
    for status, example in RESPONSES.get(name, {}).items():
        operation["responses"][status]["content"][JSON]["example"] = example


def _page(name: str, summary: str, content: Node, *errors: int) -> Node:
    """The GET of an address that no view of the REST framework answers."""
    responses = {"200": {"description": "", "content": content}}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": ["system"],
            "responses": {**responses, **{str(status): _shared(str(status)) for status in errors}},
        }
    }


TEXT = {"type": "string"}
HTML = {"text/html": {"schema": TEXT}}
FACTS = {
    "type": "object",
    "required": ["name", "version", "endpoints", "docs"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "endpoints": {"type": "object", "additionalProperties": {"type": "string"}},
        "docs": {"type": "string"},
    },
}
PAGES = {
    "/": _page(
        "get_root",
        "A page for a browser; the main endpoints for a client that asks for JSON.",
        {JSON: {"schema": FACTS}, **HTML},
        *(400, 429),
    ),
    "/api/schema": _page(
        "get_schema",
        "This document.",
        {JSON: {"schema": {"type": "object", "required": ["openapi", "info", "paths"]}}},
        *(400, 406, 429),
    ),
    "/metrics": _page(
        "get_metrics",
        "What was counted, in Prometheus' text format: with the scrape token, if at all.",
        {"text/plain": {"schema": TEXT}},
        *(400, 401, 404, 429),
    ),
    "/api/docs": _page(
        "get_docs", "A page to read this document on and to try it.", HTML, *(400, 406, 429)
    ),
}
