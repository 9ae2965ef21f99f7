"""Secrets of webhooks, and what they sign: as Standard Webhooks 1.0 has it.

A secret is kept sealed, under a key made from SECRET_KEY; one that was sealed under one of
SECRET_KEY_FALLBACKS is opened too. ADR 0040 tells why it is kept at all.
"""

import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from hmac import digest

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.crypto import salted_hmac

BYTES = 32
PREFIX = "whsec_"
PURPOSE = "telemetry.notifications.signing"


class Unreadable(Exception):
    """A secret was sealed under a SECRET_KEY that is not known here."""


def new_secret() -> bytes:
    return secrets.token_bytes(BYTES)


def written(secret: bytes) -> str:
    """As its receiver is told it."""
    return PREFIX + b64encode(secret).decode()


def seal(secret: bytes) -> str:
    return _box().encrypt(secret).decode()


def unseal(sealed: str) -> bytes:
    """Raises Unreadable."""
    try:
        return _box().decrypt(sealed)
    except InvalidToken as error:
        raise Unreadable(Unreadable.__doc__) from error


def signature(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """One of each secret, with spaces between: a receiver takes any that is right."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{b64encode(digest(key, content, sha256)).decode()}" for key in keys)


def _box() -> MultiFernet:
    """Seals with the first key, opens with any."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_key(key)) for key in keys])


def _key(secret_key: str) -> bytes:
    made = salted_hmac(PURPOSE, "", secret=secret_key, algorithm="sha256")
    return urlsafe_b64encode(made.digest())
