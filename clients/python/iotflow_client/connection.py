"""Requests that come back with an answer or one of our errors; repeated where that is safe."""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Callable, TypeVar

import httpx

from iotflow_client.errors import IoTFlowError, Unavailable, api_error

API = "/api/v1"
T = TypeVar("T")
# Nothing was taken; and, where twice is as good as once, what a proxy says of a server that left.
REFUSED = frozenset({429, 503})
GATEWAY = frozenset({502, 504})
# Of httpx's errors, those that come before anything was sent.
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Retry:
    """How often and how long to try: exponential backoff with full jitter.

    The wait before try n+1 is random, up to `first * 2**n` seconds and at most `longest`, on top
    of what the server asks for in Retry-After. No try begins later than `seconds` after the first.
    """

    tries: int = 6
    seconds: float = 60.0
    first: float = 0.5
    longest: float = 15.0

    def backoff(self, tried: int) -> float:
        return random.uniform(0, min(self.longest, self.first * 2 ** min(tried, 32)))


ONCE = Retry(tries=1)


class Secret(httpx.Auth):
    """Puts a key or token into each request; in no repr, and so in no log or traceback."""

    def __init__(self, header: str, value: str, prefix: str = "") -> None:
        value = value.strip()
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("A key or token is a word of visible ASCII characters.")
        self._header, self.value, self._prefix = header, value, prefix

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self._header] = self._prefix + self.value
        yield request

    def __repr__(self) -> str:
        return f"<Secret {self._header}>"


@dataclass(frozen=True)
class Answer:
    """A 2xx or 304: its status, its JSON object, its headers."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


class Connection:
    """A server and who speaks to it. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        secret: Secret | None,
        *,
        timeout: float = 10.0,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self.url = _checked(url)
        self.secret = secret
        self._timeout = timeout
        self.retry = retry or Retry()
        self._http = http or httpx.Client()
        self._is_own = http is None

    def close(self) -> None:
        if self._is_own:
            self._http.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, content: bytes = b"", **options: Any) -> Answer:
        return self.request("POST", path, content=content, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool = True,
        retry: Retry | None = None,
    ) -> Answer:
        """The answer, where it is 2xx or 304. Raises Unavailable or an ApiError.

        `safe`: sent twice does no more than sent once; only then is a request repeated of which
        nobody knows whether it arrived.
        """
        request = self._http.build_request(
            method,
            self.url + API + path,
            content=content,
            params=dict(query or {}),
            headers={"Accept": "application/json", **_content_type(content), **(headers or {})},
        )
        return self._repeat(request, safe, retry or self.retry)

    def _repeat(self, request: httpx.Request, safe: bool, retry: Retry) -> Answer:
        began, tried = time.monotonic(), 0
        while True:
            try:
                return self._once(request, safe, retry.seconds - (time.monotonic() - began))
            except _Again as again:
                wait = (again.retry_after or 0) + retry.backoff(tried)
                left = retry.seconds - (time.monotonic() - began) - wait
                tried += 1
                if tried >= retry.tries or left <= 0:
                    raise again.error from again.__cause__
                time.sleep(wait)

    def _once(self, request: httpx.Request, safe: bool, left: float) -> Answer:
        """One try. _Again where another may follow."""
        request.extensions["timeout"] = httpx.Timeout(max(0.1, min(self._timeout, left))).as_dict()
        try:
            response = self._http.send(request, auth=self.secret, follow_redirects=False)
        except httpx.RequestError as error:  # DecodingError too
            unavailable = Unavailable(f"{self.url} did not answer: {type(error).__name__} {error}")
            if safe or isinstance(error, UNSENT):
                raise _Again(unavailable, None) from error
            raise unavailable from error
        retry_after = _retry_after(response)
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return Answer(response.status_code, _object(response), response.headers)
        refusal = _refusal(response, retry_after)
        if response.status_code in REFUSED or (safe and response.status_code in GATEWAY):
            raise _Again(refusal, retry_after)
        raise refusal

    def __repr__(self) -> str:
        return f"<Connection {self.url}>"


class _Again(Exception):
    """Try again; `error` if that was the last try."""

    def __init__(self, error: IoTFlowError, retry_after: float | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def understood(read: Callable[[dict[str, Any]], T], answer: Answer) -> T:
    """An answer's body by way of `read`; Unavailable where it is not what the server answers."""
    try:
        return read(answer.body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable("The answer is not one of IoTFlow's.") from error


def _checked(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"Not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.userinfo:
        raise ValueError("An address is http:// or https://, a host, and at most port and path.")
    return str(parts).rstrip("/")


def _content_type(content: bytes | None) -> dict[str, str]:
    return {"Content-Type": "application/json"} if content else {}


def _object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer. Unavailable for anything else: a page of some portal, say."""
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    raise Unavailable(f"{response.url} answered {response.status_code} with something else.")


def _refusal(response: httpx.Response, retry_after: float | None) -> IoTFlowError:
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = None
    if status in GATEWAY or status == httpx.codes.SERVICE_UNAVAILABLE:
        message = body.get("message") if isinstance(body, dict) else None
        return Unavailable(f"{status} {message or 'The server is not available.'}", retry_after)
    if response.is_redirect:
        to = response.headers.get("Location", "elsewhere")
        return api_error(status, {"message": f"Redirected to {to}: use that address."}, None)
    return api_error(status, body, retry_after)


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds of Retry-After, which may be a date; None where there is nothing sensible."""
    text = response.headers.get("Retry-After", "").strip()
    try:
        if text.isdigit():
            return float(text)
        until = parsedate_to_datetime(text)
        return max(0.0, (until - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
