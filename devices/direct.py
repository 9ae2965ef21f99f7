"""The short way for devices: no session, no negotiation, one round trip to Redis.

It is taken where this process knows the key and nothing about the request is out of the ordinary;
whatever else there is to say about a request is said on the long way, by Django REST framework.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework.views import APIView

from devices import admission, key_cache, keys
from devices.admission import Admission, Claim
from devices.key_cache import Known
from iotflow.lib import counters, json
from iotflow.lib.errors import StoreAway
from iotflow.lib.ratelimit import State
from iotflow.lib.throttles import rate_headers, refused


class DirectView(APIView):
    """A view with a short way for devices, for requests with the method `direct_method`."""

    direct_method: ClassVar[str]

    def direct(self, request: HttpRequest, *args: Any, **parts: Any) -> HttpResponse | None:
        """The answer; None where the request has to go the long way."""
        raise NotImplementedError

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == self.direct_method and "HTTP_X_API_KEY" in request.META:
            try:
                response = self.direct(request, **kwargs)
            except Exception as error:
                return self._refuse(request, error, args, kwargs)
            if response is not None:
                return response
        return super().dispatch(request, *args, **kwargs)

    def _refuse(
        self, request: HttpRequest, error: Exception, args: Any, kwargs: Any
    ) -> HttpResponseBase:
        """What the long way answers to this error, which nothing is charged for any more."""
        self.args, self.kwargs = args, kwargs
        self.headers: dict[str, str] = self.default_response_headers
        self.is_charged = True
        self.request = self.initialize_request(request, *args, **kwargs)
        response = self.handle_exception(error)
        return self.finalize_response(self.request, response, *args, **kwargs)


def known_key(request: HttpRequest) -> tuple[str, Known] | None:
    """The digest of the request's key and what this process knows of it; None for nothing."""
    key = request.META["HTTP_X_API_KEY"]
    digest = keys.digest(key, settings.API_KEY_PEPPER)
    known = key_cache.known.get(digest)
    if known is None or known.record.expired(timezone.now()):
        return None
    return digest, known


def admitted(one: Claim) -> Admission | None:
    """A claim by itself; None where it has to go the long way. Raises TooManyRequests."""
    try:
        [answer] = admission.admit([one])
    except StoreAway:
        return None
    if answer is None:
        return None
    if answer.verdict.refusal is not None:
        raise refused(answer.verdict.refusal, answer.verdict.states)
    counters.count("keys.hits")
    return answer


def respond(body: Any, states: Iterable[State], status: int = 200) -> HttpResponse:
    """JSON, and how the limits stand."""
    response = HttpResponse(json.dumps(body), status=status, content_type="application/json")
    if states:
        for name, value in rate_headers(list(states)).items():
            response.headers[name] = value
    return response
