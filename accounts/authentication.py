"""How a request proves which user it comes from."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.settings import knox_settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts import failures
from accounts.models import Token, User
from accounts.second_factor import missing
from events.kinds import Kind
from iotflow.lib.throttles import counted_address


class TokenAuthentication(KnoxTokenAuthentication):
    """`Authorization: Bearer <token>`. One query: the token with its user."""

    def authenticate(self, request: Request) -> tuple[User, Token] | None:
        try:
            return super().authenticate(request)
        except AuthenticationFailed:
            who = counted_address(request._request)
            failures.note(Kind.USER_TOKEN_REFUSED, "A token was refused", who)
            raise

    def authenticate_credentials(self, token: bytes) -> tuple[User, Token]:
        try:
            token.decode()
        except UnicodeDecodeError:
            raise AuthenticationFailed("Invalid token.") from None
        return super().authenticate_credentials(token)

    def renew_token(self, auth_token: Token) -> None:
        """Put off the expiry, but write at most once an hour; one that ends meanwhile has ended."""
        now = timezone.now()
        expiry = now + knox_settings.TOKEN_TTL
        if (expiry - auth_token.expiry).total_seconds() > knox_settings.MIN_REFRESH_INTERVAL:
            Token.objects.filter(pk=auth_token.pk).update(expiry=expiry, last_used=now)

    def _cleanup_token(self, auth_token: Token) -> bool:
        """Whether the token has expired. The worker deletes those, so no request has to look."""
        return auth_token.expiry is not None and auth_token.expiry < timezone.now()


class StaffSession(SessionAuthentication):
    """The admin site's session, with CSRF, for staff who have given all it asks for."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        user: User | AnonymousUser | None = getattr(request._request, "user", None)
        if user is None or not user.is_staff or missing(request._request):
            return None
        return super().authenticate(request)


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = TokenAuthentication
    name = "userToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        scheme: dict[str, Any] = build_bearer_security_scheme_object("Authorization", "Bearer")
        return {**scheme, "description": "The token of POST /api/v1/auth/login."}


class StaffSessionScheme(OpenApiAuthenticationExtension):
    target_class = StaffSession
    name = "staffSession"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The admin site's, of staff; what changes anything needs X-CSRFToken.",
        }
