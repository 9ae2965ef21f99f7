"""Log-ins by any door, the admin site's too, become events."""

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver

from accounts.models import User
from accounts.services import actor_name
from events import log
from events.kinds import Kind, Severity


@receiver(user_logged_in)
def on_login(sender: Any, user: User, **kwargs: Any) -> None:
    log.record(
        Kind.USER_LOGIN, f"{user.username} logged in", actor=actor_name(user), user_id=user.pk
    )


@receiver(user_logged_out)
def on_logout(sender: Any, user: User | None, **kwargs: Any) -> None:
    if user is not None:
        log.record(
            Kind.USER_LOGOUT, f"{user.username} logged out", actor=actor_name(user), user_id=user.pk
        )


@receiver(user_login_failed)
def on_login_failed(sender: Any, credentials: dict[str, Any], **kwargs: Any) -> None:
    login = str(credentials.get("username", ""))
    user = User.objects.by_login(login) if login else None
    log.record(
        Kind.USER_LOGIN_FAILED,
        "A log-in failed",
        actor="anonymous",
        user_id=user.pk if user else None,
        severity=Severity.WARNING,
        # What matches no user may be a password typed into the wrong field.
        payload={"login": user.username if user else "unknown"},
    )
