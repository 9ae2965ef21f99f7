"""Device keys: how they are made, shown and stored. Pure: no database, no cache.

A key is `iotd_` and 43 characters of 256 random bits. Only its HMAC-SHA256 under the pepper is
stored; a fast digest is right here, for a random key leaves nothing to guess.
"""

import hashlib
import hmac
import re
import secrets

MARK = "iotd_"
SHOWN = len(MARK) + 6
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
    return hashlib.sha256(b"iotflow pepper " + pepper.encode()).hexdigest()[:8]


def digest(key: str, pepper: str) -> str:
    """64 hexadecimal characters, the same for the same key and pepper."""
    return hmac.digest(pepper.encode(), key.encode("utf-8", "replace"), "sha256").hex()
