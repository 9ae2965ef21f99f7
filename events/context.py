"""Where the work at hand comes from, so that an event can say it."""

import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from django.http import HttpRequest, HttpResponse

from iotflow.lib.address import client_address

REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}", re.ASCII)


class Origin(NamedTuple):
    """Client address and request id; both empty for what no request asked for."""

    address: str = ""
    request_id: str = ""


NOWHERE = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=NOWHERE)


def origin() -> Origin:
    return _origin.get()


class RequestContext:
    """Middleware: names the request (a sane X-Request-ID is kept) and answers the name."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        asked = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = asked if REQUEST_ID.fullmatch(asked) else secrets.token_hex(16)
        token = _origin.set(Origin(client_address(request), request_id))
        try:
            response = self.get_response(request)
        finally:
            _origin.reset(token)
        response["X-Request-ID"] = request_id
        return response
