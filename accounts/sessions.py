"""Sessions of the admin site, kept under a digest of their id.

So whoever reads the database, or a backup of it, cannot go on as somebody who is logged in.
"""

from hashlib import sha256
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.utils import timezone


def digest(session_key: str | None) -> str:
    """As many characters as the column holds; an id has 165 random bits, so no salt is needed."""
    return sha256((session_key or "").encode()).hexdigest()[:40]


class SessionStore(db.SessionStore):
    """The browser has the id, and only it."""

    def _get_session_from_db(self) -> AbstractBaseSession | None:
        living = self.model.objects.filter(expire_date__gt=timezone.now())
        session = living.filter(session_key=digest(self.session_key)).first()
        if session is None:
            self._session_key = None
        return session

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        session = super().create_model_instance(data)
        session.session_key = digest(session.session_key)
        return session

    def exists(self, session_key: str) -> bool:
        return super().exists(digest(session_key))

    def delete(self, session_key: str | None = None) -> None:
        known = session_key or self.session_key
        if known is not None:
            super().delete(digest(known))
