"""The second factor of staff: a code of an app (TOTP), or one of their recovery codes.

django-otp keeps both, takes each code once, and after a wrong one waits twice as long as before.
"""

import secrets
from base64 import b32encode
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from rest_framework.exceptions import AuthenticationFailed

from accounts.models import Token, User
from accounts.services import record_user
from accounts.throttles import begin_login, end_login
from events.kinds import Kind, Severity
from iotflow.lib.errors import Conflict, TooManyRequests

RECOVERY_CODES = 10
# Without what looks alike.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # pragma: allowlist secret
GROUPS, GROUP = 3, 4  # a recovery code is xxxx-xxxx-xxxx: 59 random bits
CODE, ENROLMENT = "code", "enrolment"


def missing(request: HttpRequest) -> str | None:
    """What the session of somebody of staff still needs: a CODE, or ENROLMENT; None for nothing."""
    user: Any = request.user
    if settings.ADMIN_TOTP == "off" or user.is_verified():
        return None
    if is_enrolled(user):
        return CODE
    return ENROLMENT if settings.ADMIN_TOTP == "required" else None


def is_enrolled(user: User) -> bool:
    """Known already of a session's user, whom UsernameOrEmail.get_user read with it."""
    known: bool | None = getattr(user, "has_totp", None)
    return TOTPDevice.objects.filter(user=user).exists() if known is None else known


def enrol(*, user: User, key: str, code: str) -> tuple[Device, list[str]] | None:
    """The device and its recovery codes, to be shown once; None where the code is not the key's.

    `key` is hexadecimal. The user's tokens end: they were had without a code. Conflict where
    there is a second factor already.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if TOTPDevice.objects.filter(user=user).exists():
            raise Conflict("There is a second factor already.")
        device = TOTPDevice.objects.create(user=user, key=key, name="app")
        if not device.verify_token(code):
            transaction.set_rollback(True)
            return None
        Token.objects.filter(user=user).delete()
        record_user(Kind.USER_TOTP_ENROLLED, user, "has a second factor now", user)
        return device, renew_codes(user=user)


@transaction.atomic
def renew_codes(*, user: User) -> list[str]:
    """New recovery codes, to be shown once; those before them end."""
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="recovery codes")
    codes = [_new_code() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(
        StaticToken(device=device, token=_digest(code)) for code in codes
    )
    return codes


def codes_left(user: User) -> int:
    return StaticToken.objects.filter(device__user=user).count()


@transaction.atomic
def remove(*, user: User, actor: User | None) -> bool:
    """Without second factor from now on; whether there was one."""
    removed, _ = TOTPDevice.objects.filter(user=user).delete()
    StaticDevice.objects.filter(user=user).delete()
    if removed:
        what = "has no second factor any more"
        record_user(Kind.USER_TOTP_REMOVED, user, what, actor, severity=Severity.WARNING)
    return removed > 0


def check(request: HttpRequest, user: User, text: str) -> Device | None:
    """The user's device where the text is one of its codes, or a recovery code: used up then.

    None for a wrong one, which counts as a failed log-in. Raises TooManyRequests.
    """
    attempt, used = begin_login(request, user.username, user), None
    try:
        used = _matching(user, "".join(text.split()).replace("-", "").lower())
    finally:
        end_login(attempt, succeeded=used is not None)
    if used is None:
        what = "gave a wrong code"
        record_user(Kind.USER_TOTP_FAILED, user, what, user, severity=Severity.WARNING)
        return None
    if isinstance(used, StaticDevice):
        left = {"left": codes_left(user)}
        what = "used a recovery code"
        record_user(Kind.USER_RECOVERY_CODE_USED, user, what, user, left, severity=Severity.WARNING)
    return TOTPDevice.objects.filter(user=user).first()


def is_code_needless(user: User) -> bool:
    return settings.ADMIN_TOTP == "off" or not is_enrolled(user)


def demand(request: HttpRequest, user: User, text: str) -> bool:
    """What a log-in by the API needs besides the password; whether that was a code.

    AuthenticationFailed (401) without a good code, and for staff who have to enrol first.
    """
    if settings.ADMIN_TOTP == "off":
        return False
    if is_enrolled(user):
        if not text or check(request, user, text) is None:
            raise AuthenticationFailed("A code of your second factor is needed as `code`.")
        return True
    if settings.ADMIN_TOTP == "required" and user.is_staff:
        raise AuthenticationFailed("Staff set up their second factor in the admin site first.")
    return False


@transaction.atomic
def _matching(user: User, code: str) -> Device | None:
    is_recovery = len(code) == GROUPS * GROUP
    model, token = (StaticDevice, _digest(code)) if is_recovery else (TOTPDevice, code)
    device = model.objects.select_for_update().filter(user=user).first()
    if device is None:
        return None
    is_allowed, refusal = device.verify_is_allowed()
    if not is_allowed:
        wait = (refusal["locked_until"] - timezone.now()).total_seconds()
        raise TooManyRequests(f"Too many codes were wrong; try again in {wait:.0f} s.", wait)
    return device if device.verify_token(token) else None


def _new_code() -> str:
    text = "".join(secrets.choice(ALPHABET) for _ in range(GROUPS * GROUP))
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def _digest(code: str) -> str:
    """What is kept of a recovery code: 16 characters, under SECRET_KEY."""
    plain = code.replace("-", "")
    keyed = salted_hmac("accounts.second_factor", plain, algorithm="sha256").digest()
    return b32encode(keyed[:10]).decode()
