"""What changes users, together with what has to happen with it."""

from collections.abc import Iterable, Sequence

from django.db import IntegrityError, transaction

from accounts.models import Token, User
from accounts.signals import user_activity_changed
from events import log
from events.kinds import Kind
from iotflow.lib.errors import Conflict


def actor_name(user: User | None) -> str:
    """How an event names a user who did something."""
    return "system" if user is None or user.pk is None else f"user:{user.username}"


def register_user(*, username: str, email: str, password: str) -> User:
    """A new user, active and without any rights. Conflict (409) names what is taken."""
    try:
        with transaction.atomic():
            user = User.objects.create_user(username, email, password)
            record_user(Kind.USER_REGISTERED, user, "registered", user)
    except IntegrityError as error:
        raise Conflict("Username or e-mail address is taken.", taken(username, email)) from error
    return user


def taken(username: str, email: str) -> dict[str, str]:
    """Which of the two another user has already: `{field: reason}`."""
    fields = {}
    if User.objects.by_login(username):
        fields["username"] = "This username is taken."
    if User.objects.by_login(email):
        fields["email"] = "This e-mail address is taken."
    return fields


@transaction.atomic
def set_active(*, users: Iterable[User], active: bool, actor: User | None) -> int:
    """Activate or deactivate users; a deactivated one's tokens end and their keys are refused.

    Returns how many were not so already.
    """
    changed = [user for user in users if user.is_active != active]
    for user in changed:
        user.is_active = active
        user.save(update_fields=["is_active"])
    if changed:
        announce_activity(users=changed, actor=actor)
    return len(changed)


def announce_activity(*, users: Sequence[User], actor: User | None) -> None:
    """What follows from a changed `is_active`, in the transaction that saved it."""
    Token.objects.filter(user__in=[user for user in users if not user.is_active]).delete()
    user_activity_changed.send(sender=User, users=users)
    for user in users:
        kind = Kind.USER_ACTIVATED if user.is_active else Kind.USER_DEACTIVATED
        record_user(kind, user, kind.value.removeprefix("user."), actor)


def announce_password(*, user: User, actor: User | None) -> None:
    """What follows from a changed password, in the transaction that saved it."""
    Token.objects.filter(user=user).delete()
    record_user(Kind.USER_CHANGED, user, "changed: password", actor)


def record_user(kind: Kind, user: User, what: str, actor: User | None) -> None:
    """Record that something happened to `user`, by `actor`."""
    log.record(kind, f"{user.username} {what}", actor=actor_name(actor), user_id=user.pk)
