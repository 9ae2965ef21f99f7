"""The keys of the chain, derived from AUDIT_KEY and AUDIT_KEYS_OLD."""

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from django.conf import settings

PURPOSE = b"iotflow.audit"  # so that SECRET_KEY may stand in for AUDIT_KEY


class Key(NamedTuple):
    """`id` tells keys apart and says nothing of them."""

    id: str
    value: bytes

    def sign(self, *parts: bytes) -> bytes:
        """The HMAC-SHA-256 of the parts, one after the other."""
        return hmac.digest(self.value, b"".join(parts), "sha256")


def current() -> Key:
    return _derived(settings.AUDIT_KEY)


def known() -> dict[str, Key]:
    """The present key and the former ones, by id."""
    keys = (_derived(secret) for secret in (settings.AUDIT_KEY, *settings.AUDIT_KEYS_OLD))
    return {key.id: key for key in keys}


@lru_cache(maxsize=16)
def _derived(secret: str) -> Key:
    value = hmac.digest(secret.encode(), PURPOSE, "sha256")
    return Key(sha256(value).hexdigest()[:8], value)
