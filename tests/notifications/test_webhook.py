"""One delivery by HTTP: what is sent, and what is made of every answer."""

import base64
import ssl
import time

import pytest

from telemetry.notifications import signing, webhook
from telemetry.notifications.failure import Failed
from tests.certificates import Authority
from tests.notifications.receivers import Receiver, answering


def test_the_signature_is_that_of_the_specification():
    """The example of Standard Webhooks' libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    number = "msg_p5jXN8AQM9LWM0D4loKWxJek"  # pragma: allowlist secret
    said = signing.signature([secret], number, 1614265330, b'{"test": 2432232314}')
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_kept_sealed_and_opened_with_a_former_key(settings):
    secret = signing.new_secret()
    sealed = signing.seal(secret)
    assert signing.unseal(sealed) == secret
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 40, [settings.SECRET_KEY]
    assert signing.unseal(sealed) == secret
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(signing.Unreadable):
        signing.unseal(sealed)


def test_what_is_sent(receiver):
    assert webhook.post(receiver.url, b'{"a":1}', {"webhook-id": "one"}) == "HTTP 204"
    [received] = receiver.received
    assert received.body == b'{"a":1}'
    assert received.headers["path"] == "/hook?token=t0ken"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("IoTFlow/")
    assert received.id == "one"


@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 500, 503])
def test_whatever_is_not_2xx_has_failed_and_is_not_followed(receiver, status):
    receiver.status = status
    receiver.answer_headers = {"Location": receiver.url, "Retry-After": "120"}
    with pytest.raises(Failed, match=f"HTTP {status}") as failure:
        webhook.post(receiver.url, b"{}", {})
    assert failure.value.after == 120
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("said", "after"), [("99999", 3600), ("-1", 0), ("soon", 0), ("9" * 400, 0), ("²", 0)]
)
def test_a_target_may_ask_to_be_left_alone_but_not_for_ever(receiver, said, after):
    receiver.status, receiver.answer_headers = 429, {"Retry-After": said}
    with pytest.raises(Failed) as failure:
        webhook.post(receiver.url, b"{}", {})
    assert failure.value.after == after


def test_no_proxy_of_the_environment_is_asked(receiver, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    webhook.post(receiver.url, b"{}", {})
    assert len(receiver.received) == 1


def dripping(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for n in range(100):
        connection.sendall(f"x-{n}: y\r\n".encode())
        time.sleep(0.05)


def silent(connection):
    connection.recv(65536)
    time.sleep(3)


@pytest.mark.parametrize("talk", [dripping, silent])
def test_an_answer_is_not_waited_for_longer_than_it_may_take(loopback, monkeypatch, talk):
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 0.5)
    began = time.monotonic()
    with answering(talk) as port, pytest.raises(Failed, match="in time"):
        webhook.post(f"http://127.0.0.1:{port}/", b"{}", {})
    assert time.monotonic() - began < 2


def endless(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b"x" * 65536)


def test_a_body_without_end_is_left(loopback):
    began = time.monotonic()
    with answering(endless) as port:
        assert webhook.post(f"http://127.0.0.1:{port}/", b"{}", {}) == "HTTP 200"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 99]
)
def test_what_is_no_http_has_failed(loopback, said):
    def talk(connection):
        connection.recv(65536)
        connection.sendall(said)

    with answering(talk) as port, pytest.raises(Failed):
        webhook.post(f"http://127.0.0.1:{port}/", b"{}", {})


# --- TLS ------------------------------------------------------------------------------------------
@pytest.fixture
def authority(tmp_path, monkeypatch):
    authority = Authority(tmp_path / "authority")
    context = ssl.create_default_context(cafile=str(authority.ca))
    monkeypatch.setattr(webhook, "_tls", lambda: context)
    return authority


def served(authority, name, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue(name, *names).both)
    return Receiver(host="localhost", tls=context)


def test_tls_is_verified_for_the_name_although_an_address_is_connected_to(loopback, authority):
    with served(authority, "good", "localhost").up() as receiver:
        assert webhook.post(receiver.url, b"{}", {}) == "HTTP 204"
    assert len(receiver.received) == 1


def test_a_certificate_of_another_name_or_authority_is_refused(loopback, authority, tmp_path):
    for one in (
        served(authority, "other", "example.org"),
        served(Authority(tmp_path / "strange"), "strange", "localhost"),
    ):
        with one.up() as receiver, pytest.raises(Failed, match="certificate"):
            webhook.post(receiver.url, b"{}", {})
        assert receiver.received == []


def test_plain_http_where_tls_is_expected_has_failed(receiver):
    with pytest.raises(Failed, match="TLS"):
        webhook.post(receiver.url.replace("http:", "https:"), b"{}", {})
