"""How a password proves who somebody is."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts.models import User
from accounts.throttles import begin_login
from iotflow.lib.ratelimit import give_back


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
        attempt = begin_login(request, username, user) if request is not None else None
        if user is None:
            User().set_password(password)
            return None
        if not (user.check_password(password) and self.user_can_authenticate(user)):
            return None
        if attempt is not None:
            give_back(attempt)
        return user
