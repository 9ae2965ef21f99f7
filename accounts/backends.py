"""How a password proves who somebody is."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import User
from accounts.throttles import begin_login, end_login


class UsernameOrEmail(ModelBackend):
    """Username or e-mail address, and password; unknown users take as long as wrong passwords.

    What comes by a request may fail so often only (TooManyRequests); successes do not count.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        if not username or password is None:
            return None
        user = User.objects.by_login(username)
        if request is None:
            return user if self._is_right(user, password) else None
        attempt, right = begin_login(request, username, user), False
        try:
            right = self._is_right(user, password)
        finally:
            end_login(attempt, succeeded=right)
        return user if right else None

    def get_user(self, user_id: int) -> User | None:
        """Of a session: with `has_totp`, which every page of staff's asks for, in the one query."""
        of_theirs = TOTPDevice.objects.filter(user=OuterRef("pk"))
        user = User.objects.annotate(has_totp=Exists(of_theirs)).filter(pk=user_id).first()
        return user if user and self.user_can_authenticate(user) else None

    def _is_right(self, user: User | None, password: str) -> bool:
        if user is None:
            User().set_password(password)
            return False
        return user.check_password(password) and self.user_can_authenticate(user)
