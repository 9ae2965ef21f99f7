"""Requests that mean harm, byte for byte: the same number always makes the same one.

What a client library would refuse to send is the point of most of them.
"""

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.fuzz.nasty import (
    BODIES,
    BOMB,
    CHUNKED,
    CONDITION_VALUES,
    CONDITIONS,
    CONTENT_TYPES,
    FIELDS,
    FORM_TYPES,
    HEADER_VALUES,
    HEADERS,
    IDS,
    LARGE,
    LENGTHS,
    LOOKUPS,
    METHODS,
    PARAMETERS,
    PATHS,
    PROOFS,
    QUERY_VALUES,
    TEXTS,
    TRANSFER,
    UNKNOWN,
    VALUES,
    WHOLE_TARGETS,
)

Headers = list[tuple[bytes, bytes]]
CRLF = b"\r\n"
NAMES = ("data", "timestamp", "metadata", "readings", "name", "username", "password", "limit")


@dataclass(frozen=True)
class Attack:
    """A request as it goes over the wire.

    `breaks`: it is no whole HTTP, and the connection may end without an answer. `leaves`: the
    client is gone before there can be one.
    """

    kind: str
    data: bytes
    method: str = "POST"
    breaks: bool = False
    leaves: bool = False


@dataclass(frozen=True)
class Target:
    """What the server has: proofs that are good, things that exist, addresses of the API."""

    host: str
    proofs: dict[str, tuple[str, str]]  # by role, a header
    cookie: str  # of staff's session, with its CSRF cookie
    csrf: str
    ids: dict[str, str]
    endpoints: list[tuple[str, str]]
    admin_pages: list[str]


@dataclass
class Attacker:
    """Makes attack number `n` of a seed."""

    target: Target
    seed: int
    dice: random.Random = field(default_factory=random.Random)

    def attack(self, n: int) -> Attack:
        self.dice.seed(f"{self.seed} {n}")
        return KINDS[n % len(KINDS)](self)

    # --- Parts of a request ---------------------------------------------------------------------
    def proof(self) -> Headers:
        """Mostly good: what nobody may do is refused before anything can go wrong."""
        if self.dice.random() < 0.1:
            return []
        role = self.dice.choices(["staff", "user", "device"], [4, 2, 3])[0]
        return [self.header(role)]

    def endpoint(self, methods: tuple[str, ...] = ()) -> tuple[str, str]:
        """A method and a path; what is there is read and written, and never deleted."""
        fitting = [one for one in self.target.endpoints if not methods or one[0] in methods]
        method, path = self.dice.choice(fitting)
        for name, value in self.target.ids.items():
            known = method != "DELETE" and self.dice.random() < 0.8
            there = value if known else quote(self.dice.choice(IDS), safe="")
            path = path.replace(f"{{{name}}}", there)
        return method, path

    def request(
        self, method: str, path: str | bytes, headers: Headers | None = None, body: bytes = b""
    ) -> bytes:
        """Well-formed as far as its parts are."""
        given = headers or []
        names = {name.lower() for name, _ in given}
        lines = [
            *([] if b"host" in names else [(b"Host", self.target.host.encode())]),
            *([] if b"content-length" in names else [(b"Content-Length", b"%d" % len(body))]),
            *given,
        ]
        target = path if isinstance(path, bytes) else path.encode()
        head = CRLF.join(name + b": " + value for name, value in lines)
        return method.encode() + b" " + target + b" HTTP/1.1" + CRLF + head + CRLF * 2 + body

    def json(self) -> bytes:
        """Something that parses, of the names that the API knows and values it does not expect."""
        return json.dumps(self.value(0)).encode()

    def value(self, depth: int) -> object:
        if depth > 4 or self.dice.random() < 0.3:
            return self.dice.choice(VALUES)
        if self.dice.random() < 0.3:
            return [self.value(depth + 1) for _ in range(self.dice.randrange(4))]
        names = [*NAMES, *TEXTS[:12]]
        return {
            self.dice.choice(names): self.value(depth + 1) for _ in range(self.dice.randrange(6))
        }

    def garbage(self, most: int) -> bytes:
        return self.dice.randbytes(self.dice.randrange(most))

    # --- Bodies ---------------------------------------------------------------------------------
    def strange_json(self) -> Attack:
        method, path = self.endpoint(("POST", "PUT", "PATCH"))
        headers = [*self.proof(), (b"Content-Type", b"application/json")]
        return Attack("json", self.request(method, path, headers, self.json()), method)

    def broken_json(self) -> Attack:
        method, path = self.endpoint(("POST", "PUT", "PATCH"))
        body = self.dice.choice(BODIES)
        if self.dice.random() < 0.4:
            body = self.mutilated(self.json())
        headers = [*self.proof(), (b"Content-Type", b"application/json")]
        return Attack("broken json", self.request(method, path, headers, body), method)

    def mutilated(self, body: bytes) -> bytes:
        spot = self.dice.randrange(len(body) + 1)
        return self.dice.choice(
            [body[:spot], body[:spot] + self.garbage(9) + body[spot:], body * 2, body[spot:]]
        )

    def reading(self) -> Attack:
        """A submission by a device that is known, with one thing wrong."""
        wrong: dict[str, object] = {"data": {"a": 1}}
        wrong[self.dice.choice(NAMES)] = self.dice.choice(VALUES)
        if self.dice.random() < 0.5:
            wrong["data"] = {self.dice.choice(TEXTS): self.dice.choice(VALUES)}
        many = [wrong] * self.dice.choice([0, 1, 7, 1001])
        path, body = self.dice.choice(
            [("", wrong), ("/batch", {"readings": many}), ("/bulk", {"readings": many})]
        )
        headers = [self.header("device"), (b"Content-Type", b"application/json")]
        text = json.dumps(body).encode()
        return Attack("reading", self.request("POST", f"/api/v1/telemetry{path}", headers, text))

    def header(self, role: str) -> tuple[bytes, bytes]:
        name, value = self.target.proofs[role]
        return name.encode(), value.encode()

    def content_type(self) -> Attack:
        method, path = self.endpoint(("POST", "PUT", "PATCH"))
        kind = self.dice.choice(CONTENT_TYPES)
        body = self.dice.choice([*BODIES[:20], self.json(), self.garbage(200)])
        headers = [*self.proof(), (b"Content-Type", kind)]
        return Attack("content type", self.request(method, path, headers, body), method)

    def encoding(self) -> Attack:
        method, path = self.endpoint(("POST", "PUT", "PATCH"))
        name, body = self.dice.choice(
            [(b"gzip", BOMB), (b"deflate", zlib.compress(b" " * 10**6)), (b"br", self.garbage(99))]
        )
        headers = [
            *self.proof(),
            (b"Content-Type", b"application/json"),
            (b"Content-Encoding", self.dice.choice([name, b"gzip, gzip", b"identity", b"x"])),
        ]
        return Attack("encoding", self.request(method, path, headers, body), method)

    def too_large(self) -> Attack:
        size = LARGE + self.dice.choice([-1, 0, 1, 9, 5_000_000])
        body = b" " * size
        headers = [*self.proof(), (b"Content-Type", b"application/json")]
        return Attack("large", self.request("POST", "/api/v1/telemetry", headers, body))

    # --- Framing --------------------------------------------------------------------------------
    def length(self) -> Attack:
        body = self.json()
        near = [b"%d" % (len(body) + more) for more in (50, 1, -1)]
        given = self.dice.choice([*near, *LENGTHS])
        headers = [*self.proof(), (b"Content-Length", given)]
        if self.dice.random() < 0.3:
            headers.append((b"Content-Length", b"7"))
        method, path = self.endpoint(("POST", "PUT"))
        return Attack("length", self.request(method, path, headers, body), method, breaks=True)

    def chunks(self) -> Attack:
        body = self.dice.choice(CHUNKED)
        headers = [*self.proof(), (b"Content-Type", b"application/json")]
        headers.append((b"Transfer-Encoding", self.dice.choice(TRANSFER)))
        # With a length besides, it is for the server to say which of them counts.
        length = (b"Content-Length", b"%d" % len(body))
        data = self.request("POST", "/api/v1/telemetry", [*headers, length], body)
        if self.dice.random() < 0.7:
            data = data.replace(b"Content-Length: %d\r\n" % len(body), b"", 1)
        return Attack("chunks", data, breaks=True)

    def head(self) -> Attack:
        method, path = self.endpoint()
        host = f"Host: {self.target.host}".encode()
        start = f"{method} {path}".encode()
        data = self.dice.choice(
            [
                start + b"\r\n\r\n",
                start + b" HTTP/3.0\r\n" + host + b"\r\n\r\n",
                start + b" HTTP/1.0\r\n\r\n",
                start + b" HTTP/1.1\n" + host + b"\n\n",
                start + b" HTTP/1.1\r\n\r\n",
                start + b" HTTP/1.1\r\n" + host + b"\r\n" + host + b"\r\n\r\n",
                start + b" HTTP/1.1\r\n" + host + b"\r\n folded: yes\r\n\r\n",
                start + b" HTTP/1.1\r\nHost : x\r\n\r\n",
                start + b" HTTP/1.1\r\n: nothing\r\n\r\n",
                start + b" HTTP/1.1\r\nno colon\r\n\r\n",
                start + b" HTTP/1.1\r\n" + host + b"\r\nX: a\rb\r\n\r\n",
                start + b" HTTP/1.1\r\n" + host + b"\r\nX: a\0b\r\n\r\n",
                start + b" HTTP/1.1\r\n" + host + b"\r\nConnection: close, keep-alive\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.garbage(60),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self.garbage(200),
                b"\r\n" * 50 + start + b" HTTP/1.1\r\n" + host + b"\r\n\r\n",
                b"GET " + self.dice.choice(WHOLE_TARGETS) + b" HTTP/1.1\r\n" + host + b"\r\n\r\n",
                self.garbage(400),
            ]
        )
        return Attack("head", data, method if data.startswith(start) else "GET", breaks=True)

    def leaving(self) -> Attack:
        """Gone in the middle of a request, or right after it."""
        method, path = self.endpoint(("POST", "PUT", "PATCH", "GET"))
        headers = [*self.proof(), (b"Content-Type", b"application/json")]
        data = self.request(method, path, headers, self.json())
        if self.dice.random() < 0.7:
            data = data[: self.dice.randrange(1, len(data))]
        return Attack("leaving", data, method, breaks=True, leaves=True)

    # --- Head -----------------------------------------------------------------------------------
    def headers(self) -> Attack:
        method, path = self.endpoint()
        lines = self.proof()
        for _ in range(self.dice.randrange(1, 4)):
            lines.append((self.dice.choice(HEADERS), self.dice.choice(HEADER_VALUES)))
        if self.dice.random() < 0.1:
            lines += [(b"X-%d" % n, b"v") for n in range(self.dice.choice([60, 99, 101, 3000]))]
        data = self.request(method, path, lines)
        # CR, LF and NUL end a line or are none of HTTP, and 100 lines or 400 KB are too many.
        return Attack("headers", data, method, breaks=True)

    def proofs(self) -> Attack:
        method, path = self.endpoint()
        name = self.dice.choice([b"X-API-Key", b"Authorization", b"Cookie"])
        value = self.dice.choice(PROOFS)
        return Attack("proofs", self.request(method, path, [(name, value)]), method)

    def conditions(self) -> Attack:
        method, path = self.endpoint(("GET", "POST"))
        lines = [*self.proof(), (b"Content-Type", b"application/json")]
        for name in self.dice.sample(CONDITIONS, 3):
            lines.append((name, self.dice.choice(CONDITION_VALUES)))
        body = self.dice.choice([b"", b'{"data": {"a": 1}}'])
        return Attack("conditions", self.request(method, path, lines, body), method)

    # --- Addresses ------------------------------------------------------------------------------
    def path(self) -> Attack:
        method, path = self.endpoint()
        wrong = self.dice.choice(PATHS)
        spot = self.dice.choice([i for i, letter in enumerate(path) if letter == "/"])
        raw = path[:spot].encode() + wrong + path[spot:].encode()
        if self.dice.random() < 0.4:
            raw = b"/" + wrong
        if self.dice.random() < 0.2:
            raw = b"/static/" + wrong
        return Attack("path", self.request(method, raw, self.proof()), method, breaks=True)

    def query(self) -> Attack:
        method, path = self.endpoint(("GET", "DELETE"))
        pairs = [
            f"{quote(self.dice.choice(PARAMETERS))}={self.dice.choice(QUERY_VALUES)}"
            for _ in range(self.dice.randrange(1, 5))
        ]
        if self.dice.random() < 0.05:
            pairs = [f"p{n}={n}" for n in range(1500)]
        raw = path.encode() + b"?" + "&".join(pairs).encode()
        return Attack("query", self.request(method, raw, self.proof()), method)

    def method(self) -> Attack:
        _, path = self.endpoint()
        name = self.dice.choice(METHODS)
        return Attack("method", self.request(name, path, self.proof()), name, breaks=True)

    def unknown(self) -> Attack:
        path = self.dice.choice(UNKNOWN)
        return Attack("unknown", self.request("GET", path, self.proof()), "GET")

    # --- Pages ----------------------------------------------------------------------------------
    def page(self) -> Attack:
        """A page of staff's, by staff, with a query that its lists were not made for."""
        path = self.dice.choice(self.target.admin_pages)
        pairs = [
            f"{quote(self.dice.choice(LOOKUPS))}={self.dice.choice(QUERY_VALUES)}"
            for _ in range(self.dice.randrange(3))
        ]
        raw = f"{path}?{'&'.join(pairs)}"
        return Attack("page", self.request("GET", raw, [self.session()]), "GET")

    def form(self) -> Attack:
        """A form of staff's, filled with what does not belong there, mostly with its token."""
        path = self.dice.choice(self.target.admin_pages)
        fields = {
            self.dice.choice(FIELDS): quote(self.dice.choice(TEXTS), errors="surrogatepass")
            for _ in range(self.dice.randrange(6))
        }
        if self.dice.random() < 0.8:
            fields["csrfmiddlewaretoken"] = self.target.csrf
        body = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
        if self.dice.random() < 0.1:
            body += b"&" + self.garbage(200) + b"&a=1" * self.dice.choice([1, 2000])
        headers = [self.session(), (b"Content-Type", self.dice.choice(FORM_TYPES))]
        return Attack("form", self.request("POST", path, headers, body))

    def session(self) -> tuple[bytes, bytes]:
        return b"Cookie", self.target.cookie.encode()

    def log_in(self) -> Attack:
        """By the API, or by the form with a good token: names and passwords of every shape."""
        name, password = self.dice.choice(VALUES), self.dice.choice(VALUES)
        if self.dice.random() < 0.7:
            body = json.dumps({"username": name, "password": password}).encode()
            headers = [(b"Content-Type", b"application/json")]
            return Attack("log-in", self.request("POST", "/api/v1/auth/login", headers, body))
        pairs = {key: self.dice.choice(TEXTS) for key in ("username", "password", "next")}
        values = [f"{key}={quote(one, errors='surrogatepass')}" for key, one in pairs.items()]
        body = "&".join([*values, f"csrfmiddlewaretoken={self.target.csrf}"]).encode()
        cookie = f"csrftoken={self.target.csrf}".encode()
        headers = [(b"Cookie", cookie), (b"Content-Type", FORM_TYPES[0])]
        return Attack("log-in", self.request("POST", "/admin/login/", headers, body))


# In turn. Pages, log-ins and large bodies cost most and come once; what finds most comes often.
KINDS: list[Callable[[Attacker], Attack]] = [
    *[Attacker.strange_json, Attacker.broken_json, Attacker.reading] * 4,
    *[Attacker.headers, Attacker.query, Attacker.path] * 4,
    *[Attacker.proofs, Attacker.conditions] * 3,
    *[Attacker.length, Attacker.chunks, Attacker.head, Attacker.leaving] * 2,
    *[Attacker.content_type, Attacker.encoding, Attacker.method, Attacker.unknown],
    *[Attacker.page, Attacker.form, Attacker.log_in, Attacker.too_large],
]
