"""What may go wrong, as exceptions. All are `IoTFlowError`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class IoTFlowError(Exception):
    """Whatever this package raises besides ValueError and TypeError for wrong arguments."""


class Unavailable(IoTFlowError):
    """No usable answer after every try; what was sent may or may not have arrived.

    `retry_after`: the seconds that the server asked for, None where it did not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiError(IoTFlowError):
    """The server refused: its status, its short code, its sentence and the fields at fault."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Sequence[str]] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        fields = [f"{field}: {' '.join(reasons)}" for field, reasons in self.details.items()]
        return " ".join([f"{self.status} {self.message}", *fields])


class ValidationFailed(ApiError):
    """400: `details` names every field that is wrong."""


class NotAuthenticated(ApiError):
    """401: the key or the token is unknown, revoked or expired."""


class Forbidden(ApiError):
    """403: the device is switched off, say."""


class NotFound(ApiError):
    """404: not there, or not yours."""


class Conflict(ApiError):
    """409: a name that is taken, say."""


class BodyTooLarge(ApiError):
    """413: more bytes than the server takes at once."""


class TooManyRequests(ApiError):
    """429, still after every try; `retry_after` says when to come back."""


class QueueError(IoTFlowError):
    """The queue's file cannot be used: the disk is full or broken, or the file is no queue."""


class QueueFull(QueueError):
    """The queue holds as much as it may, and was told to refuse rather than to drop."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: ValidationFailed,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: BodyTooLarge,
    429: TooManyRequests,
}


def api_error(status: int, body: Any, retry_after: float | None) -> ApiError:
    """The error that an answer is; a body that is not the server's own has the code ""."""
    body = body if isinstance(body, dict) else {}
    code, message = body.get("error"), body.get("message")
    details = body.get("details")
    return BY_STATUS.get(status, ApiError)(
        status,
        code if isinstance(code, str) else "",
        message if isinstance(message, str) else "The answer was not one of IoTFlow's.",
        _details(details) if isinstance(details, dict) else None,
        retry_after,
    )


def _details(details: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        str(field): [str(reason) for reason in reasons] if isinstance(reasons, list) else []
        for field, reasons in details.items()
    }
