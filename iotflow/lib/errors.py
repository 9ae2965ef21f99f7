"""The one shape of every error answer, and the errors that are ours."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, JsonResponse
from rest_framework import exceptions, serializers, status
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error

from iotflow.lib.metrics import STORE_FAILURES

logger = logging.getLogger(__name__)


class StoreAway(Exception):
    """A store that the promise needs did not answer in time; nothing is promised."""

    def __init__(self, store: str, retry_after: int = 1) -> None:
        super().__init__(f"{store} did not answer in time.")
        self.store = store
        self.retry_after = retry_after


class Conflict(exceptions.APIException):
    """What was asked for contradicts what is stored already."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or {}


class TooManyRequests(exceptions.APIException):
    """A limit is used up; there is room again in `wait` seconds, and `headers` tell of it."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "too_many_requests"

    def __init__(self, message: str, wait: float, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.wait = max(1, ceil(wait))
        self.headers = headers or {}


CODES = {
    400: "validation_error",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    500: "server_error",
    503: "store_unavailable",
}
ERROR_CODES = sorted(set(CODES.values()))
NAMED = 10  # fields in a message; the details have all of them
REASON = 400
NOT_FOUND = "There is nothing here, or nothing that you may see."

# What is said where nothing is known but the status.
MESSAGES = {
    400: "The request is malformed.",
    403: "You may not do that.",
    404: NOT_FOUND,
    500: "Something went wrong here; it has been logged.",
}


class Error(serializers.Serializer[Any]):
    """The shape of every error, for the schema."""

    error = serializers.ChoiceField(choices=ERROR_CODES)
    message = serializers.CharField()
    details = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="Where fields are at fault: the reasons, by field.",
    )


def error_body(
    code: int, message: str, details: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """`{"error", "message"}` and, where fields are at fault, `{"details": {field: [reasons]}}`."""
    body: dict[str, Any] = {"error": CODES.get(code, "error"), "message": message}
    if details:
        body["details"] = {field: list(reasons) for field, reasons in details.items()}
    return body


def error_response(
    code: int, message: str, details: Mapping[str, Sequence[str]] | None = None
) -> JsonResponse:
    """An error answer from outside the views: middleware, handlers of Django's own errors."""
    return JsonResponse(error_body(code, message, details), status=code)


def plain_error(code: int) -> JsonResponse:
    return error_response(code, MESSAGES.get(code, MESSAGES[400]))


def store_away_response(error: StoreAway) -> JsonResponse:
    response = error_response(503, f"{error} Nothing was promised; try again.")
    response["Retry-After"] = str(error.retry_after)
    return response


def as_store_away(error: BaseException) -> StoreAway | None:
    """`error` as the absence of a store, or None where it is something else."""
    if isinstance(error, StoreAway):
        return error
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("the database did not answer: %s", error)
        STORE_FAILURES.add("database", "all")
        return StoreAway("The database")
    return None


def reason_of(error: BaseException) -> str:
    """What a driver said, in a line of at most REASON characters: for who runs this, no answer."""
    said = error.__cause__ if isinstance(error, StoreAway) and error.__cause__ else error
    lines = str(said).strip().splitlines() or [type(said).__name__]
    return lines[0][:REASON]


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: any expected error as the one shape; None (a 500) for a defect of ours."""
    if away := as_store_away(error):
        return Response(
            error_body(503, f"{away} Nothing was promised; try again."),
            status=503,
            headers={"Retry-After": str(away.retry_after)},
        )
    if isinstance(error, Http404) or _is_gone(error):
        return Response(error_body(404, NOT_FOUND), status=404)
    if isinstance(error, PermissionDenied):
        return Response(error_body(403, MESSAGES[403]), status=403)
    if isinstance(error, ValidationError):  # of a model
        error = exceptions.ValidationError(as_serializer_error(error))
    if not isinstance(error, exceptions.APIException):
        return None
    return Response(
        error_body(error.status_code, _message(error), _details(error)),
        status=error.status_code,
        headers=_headers(error),
    )


def _is_gone(error: Exception) -> bool:
    """Whether a row was deleted between reading and saving it."""
    return type(error) is DatabaseError and "did not affect any rows" in str(error)


def _message(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.ValidationError):
        fields = list(dict(_flatten(error.detail)))
        more = f" and {len(fields) - NAMED} more" if len(fields) > NAMED else ""
        return f"Not accepted as sent; see: {', '.join(fields[:NAMED])}{more}."
    if isinstance(error, exceptions.NotFound):
        return NOT_FOUND
    return str(error.detail)


def _details(error: exceptions.APIException) -> dict[str, list[str]]:
    if isinstance(error, exceptions.ValidationError):
        return dict(_flatten(error.detail))
    if isinstance(error, Conflict):
        return {field: [reason] for field, reason in error.fields.items()}
    if isinstance(error, exceptions.ParseError):
        return {"body": [str(error.detail)]}
    if isinstance(error, exceptions.UnsupportedMediaType):
        return {"Content-Type": [str(error.detail)]}
    return {}


def _printable(text: str) -> str:
    """What came from a client may hold half a surrogate pair, which no answer can."""
    return text.encode("utf-8", "backslashreplace").decode()


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _flatten(detail: Any, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """DRF's nested details as (dotted field, reasons); what names no field is the whole `body`."""
    if isinstance(detail, Mapping):
        for field, inner in detail.items():
            name = "" if field == "non_field_errors" else str(field)
            yield from _flatten(inner, ".".join(filter(None, (path, name))))
    elif isinstance(detail, list) and any(isinstance(item, Mapping | list) for item in detail):
        for index, item in enumerate(detail):
            if item:
                yield from _flatten(item, f"{path}.{index}" if path else str(index))
    else:
        reasons = detail if isinstance(detail, list) else [detail]
        yield _printable(path or "body"), [_printable(str(reason)) for reason in reasons]
