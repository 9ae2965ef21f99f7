"""What changes users, together with what has to happen with it."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import Http404

from accounts.models import Token, User
from accounts.signals import user_activity_changed, user_leaving
from events import log
from events.kinds import Kind, Severity
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

    Returns how many were not so already. Conflict when the actor would deactivate themselves;
    Http404 when a user is gone.
    """
    users = sorted(users, key=attrgetter("pk"))
    if not active and actor in users:
        raise Conflict("You cannot deactivate yourself; other staff can.")
    for user in users:
        _lock(user)
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


def change_user(
    *, user: User, fields: Mapping[str, str], actor: User, keep: Token | None = None
) -> User:
    """Change username, email or password as given. Conflict (409) names what is taken.

    A changed password ends the user's tokens, but for `keep`, by which it was changed.
    """
    others = {name: value for name, value in fields.items() if name != "password"}
    for name, value in others.items():
        setattr(user, name, value)
    if "password" in fields:
        user.set_password(fields["password"])
    try:
        with transaction.atomic():
            user.save(update_fields=list(fields))
            if "password" in fields:
                Token.objects.filter(user=user).exclude(pk=keep.pk if keep else None).delete()
            record_user(Kind.USER_CHANGED, user, f"changed: {', '.join(fields)}", actor)
    except IntegrityError as error:
        taken = dict.fromkeys(others, "It is taken.")
        raise Conflict("Username or e-mail address is taken.", taken) from error
    return user


@transaction.atomic
def end_tokens(*, user: User, tokens: QuerySet[Token], actor: User | None = None) -> int:
    """End these tokens of the user's; how many. `actor` is who does it, where not they."""
    count, _ = tokens.filter(user=user).delete()
    if count:
        what = "ended" if actor in (None, user) else "lost"
        record_user(Kind.USER_TOKENS_ENDED, user, f"{what} {count} token(s)", actor or user)
    return count


def delete_user(*, user: User, actor: User | None) -> None:
    """Delete the user with everything they own; telemetry follows in the background.

    Deactivates them first, so that nothing is added to what goes in parts. What breaks off may be
    begun again: the user and the event come last. Conflict when the actor would delete themselves;
    Http404 when somebody else has.
    """
    if user == actor:
        raise Conflict("You cannot delete yourself; other staff can.")
    went = {name: getattr(user, name).count() for name in ("devices", "device_groups")}
    went["tokens"] = Token.objects.filter(user=user).count()
    set_active(users=[user], active=False, actor=actor)
    user_leaving.send(sender=User, user=user)
    with transaction.atomic():
        _lock(user)
        record_user(Kind.USER_DELETED, user, "was deleted", actor, went)
        user.delete()


def _lock(user: User) -> None:
    """The user as they are now, until the transaction ends. Http404 when they are gone.

    The first of the locks: then those of devices by their ids, then those of their keys.
    """
    try:
        user.refresh_from_db(from_queryset=User.objects.select_for_update())
    except User.DoesNotExist as error:
        raise Http404 from error


def record_user(
    kind: Kind,
    user: User,
    what: str,
    actor: User | None,
    payload: Mapping[str, Any] | None = None,
    severity: Severity = Severity.INFO,
) -> None:
    """Record that something happened to `user`, by `actor`."""
    log.record(
        kind,
        f"{user.username} {what}",
        actor=actor_name(actor),
        user_id=user.pk,
        severity=severity,
        payload=payload,
    )


def record_role(
    name: str,
    what: str,
    actor: str,
    *,
    granted: Sequence[str] = (),
    taken: Sequence[str] = (),
    changes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Record that something happened to a group of staff.

    `granted` and `taken` are permissions; `changes` is name → [before, after].
    """
    log.record(
        Kind.ROLE_CHANGED,
        f"Role {name} {what}",
        actor=actor,
        severity=Severity.WARNING,
        payload={
            "granted": list(granted),
            "taken": list(taken),
            **({"changes": dict(changes)} if changes else {}),
        },
    )


def permissions_of(group: Group) -> set[str]:
    """As `app.codename`."""
    held = group.permissions.values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in held}
