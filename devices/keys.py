"""Device keys: how they are made, shown and stored. Pure: no database, no cache.

A key is `iotd_` and 43 characters of 256 random bits. Only its HMAC-SHA256 under the pepper is
stored; a fast digest is right here, for a random key leaves nothing to guess.
"""

import re
import secrets
from functools import lru_cache
from hashlib import sha256

MARK = "iotd_"
SHOWN = len(MARK) + 6
BLOCK = 64  # bytes of a block of SHA-256
FORM = re.compile(re.escape(MARK) + r"[A-Za-z0-9_-]{43}", re.ASCII)


def make() -> str:
    return MARK + secrets.token_urlsafe(32)


def well_formed(key: str) -> bool:
    """Whether it could be a key at all: what is not is refused without asking anybody."""
    return FORM.fullmatch(key) is not None


def shown(key: str) -> str:
    """The first characters, by which an owner recognises a key."""
    return key[:SHOWN]


def fingerprint(pepper: str) -> str:
    """8 hexadecimal characters that name a pepper without giving it away."""
    return sha256(b"iotflow pepper " + pepper.encode()).hexdigest()[:8]


def digest(key: str, pepper: str) -> str:
    """64 hexadecimal characters, the same for the same key and pepper: HMAC as RFC 2104 has it.

    By hand, for OpenSSL looks the digest up for every HMAC, which takes longer than hashing.
    """
    inner, outer = _pads(pepper)
    inside = sha256(inner + key.encode("utf-8", "replace")).digest()
    return sha256(outer + inside).hexdigest()


@lru_cache(maxsize=16)
def _pads(pepper: str) -> tuple[bytes, bytes]:
    secret = pepper.encode()
    if len(secret) > BLOCK:
        secret = sha256(secret).digest()
    secret = secret.ljust(BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in secret), bytes(byte ^ 0x5C for byte in secret)
