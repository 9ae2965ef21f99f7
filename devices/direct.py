"""The short way for devices: no session, no negotiation, one round trip to Redis.

It is taken where this process knows the key and nothing about the request is out of the ordinary;
whatever else there is to say about a request is said on the long way, by Django REST framework.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import admission, key_cache, keys
from devices.admission import Admission, Claim
from devices.key_cache import Known
from iotflow.lib import counters, json
from iotflow.lib.address import DEVICE
from iotflow.lib.errors import StoreAway
from iotflow.lib.ratelimit import State
from iotflow.lib.throttles import rate_headers, refused


class DirectView(APIView):
    """A view with a short way for devices, for requests with the method `direct_method`."""

    direct_method: ClassVar[str]

    def direct(self, request: HttpRequest, **parts: Any) -> HttpResponse | None:
        """The answer; None where the request has to go the long way."""
        raise NotImplementedError

    def refuse(
        self, request: HttpRequest, error: Exception, parts: dict[str, Any]
    ) -> HttpResponseBase:
        """What the long way answers to this error, which nothing is charged for any more."""
        self.args, self.kwargs = (), parts
        self.headers: dict[str, str] = self.default_response_headers
        self.is_charged = True
        self.request = self.initialize_request(request, **parts)
        response = self.handle_exception(error)
        answer: Response = self.finalize_response(self.request, response, **parts)
        return answer.render()


class ShortWay:
    """Middleware: what a DirectView can answer at once needs nothing that comes after this."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "HTTP_X_API_KEY" in request.META:
            key_cache.renew_if_due()
            response = self._answer(request)
            if response is not None:
                return response
        return self.get_response(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase | None:
        found = direct_view(request.path_info)
        if found is None or request.method != found[0].direct_method:
            return None
        view_class, match = found
        request.resolver_match = match
        view = view_class()
        try:
            return view.direct(request, **match.kwargs)
        except Exception as error:
            return view.refuse(request, error, match.kwargs)


@lru_cache(maxsize=20_000)
def direct_view(path: str) -> tuple[type[DirectView], ResolverMatch] | None:
    """The DirectView at a path, and how the path leads to it; None for any other.

    Remembered: a device asks at the same one or two again and again.
    """
    try:
        match = resolve(path)
    except Resolver404:
        return None
    view_class = getattr(match.func, "view_class", None)
    if isinstance(view_class, type) and issubclass(view_class, DirectView):
        return view_class, match
    return None


def known_key(request: HttpRequest) -> tuple[str, Known] | None:
    """The digest of the request's key and what this process knows of it; None for nothing."""
    key = request.META["HTTP_X_API_KEY"]
    digest = keys.digest(key, settings.API_KEY_PEPPER)
    known = key_cache.known.get(digest)
    if known is None or known.record.expired(timezone.now()):
        return None
    request.META[DEVICE] = known.record.id
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


class DirectAnswer(HttpResponse):
    """An answer at whose end no connection is looked at, as Django does at the end of every other.

    Hardly one of these requests used the thread's; the beginning of the next one looks at them too.
    """

    def close(self) -> None:
        self.closed = True


def respond(body: Any, states: Iterable[State], status: int = 200) -> HttpResponse:
    """JSON, and how the limits stand."""
    response = DirectAnswer(json.dumps(body), status=status, content_type="application/json")
    if states:
        for name, value in rate_headers(list(states)).items():
            response.headers[name] = value
    return response
