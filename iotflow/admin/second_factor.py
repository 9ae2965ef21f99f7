"""What stands between the password and the admin site, and the page where staff see to it."""

from base64 import b32encode
from collections.abc import Callable
from functools import wraps
from typing import Any

import django_otp
import segno
from django.conf import settings
from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django_otp.models import Device
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp.util import random_hex

from accounts.models import User
from accounts.requests import current_user
from accounts.second_factor import (
    CODE,
    ENROLMENT,
    check,
    codes_left,
    enrol,
    is_enrolled,
    missing,
    remove,
    renew_codes,
)
from iotflow.lib.errors import Conflict, TooManyRequests

View = Callable[..., HttpResponse]
KEY = "totp_key"  # in the session, until the first code proves that the app has it
WRONG = "This code is wrong, or was used already."
PAGES = {CODE: "admin:code", ENROLMENT: "admin:second_factor"}


def before(view: View) -> View:
    """Mark a view as one that staff reach by their password alone."""
    view.before_second_factor = True  # type: ignore[attr-defined]
    return view


def behind(view: View) -> View:
    """The view, for a session that lacks nothing; any other is led to what it lacks."""
    if getattr(view, "before_second_factor", False):
        return view

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        lack = missing(request)
        if lack is None:
            return view(request, *args, **kwargs)
        wanted = request.get_full_path() if request.method == "GET" else reverse("admin:index")
        return redirect(f"{reverse(PAGES[lack])}?{urlencode({'next': wanted})}")

    return answer


@before
def code(request: HttpRequest) -> HttpResponse:
    """Asks for a code; whoever gives a right one goes on to where they wanted to be."""
    lack = missing(request)
    if lack != CODE:
        return redirect(PAGES[lack] if lack else _wanted(request))
    context = {"title": "Second factor", "next": _wanted(request)}
    if request.method != "POST":
        return _page(request, "code", context)
    device, error, refusal = _checked(request)
    if device is None:
        return _page(request, "code", {**context, "error": error}, refusal)
    _verified(request, device)
    return redirect(_wanted(request))


@before
def own(request: HttpRequest) -> HttpResponse:
    """Set it up with a QR code; later: new recovery codes, or its end, each for a code."""
    lack = missing(request)
    if settings.ADMIN_TOTP == "off":
        raise Http404
    if lack == CODE:
        return redirect(PAGES[CODE])
    if is_enrolled(current_user(request)):
        return _keep(request)
    return _set_up(request)


def _set_up(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    key = request.session.setdefault(KEY, random_hex(20))
    if request.method == "POST":
        try:
            enrolled = enrol(user=user, key=key, code=request.POST.get("code", ""))
        except Conflict:  # in another window
            return redirect(PAGES[CODE])
        if enrolled is not None:
            device, codes = enrolled
            del request.session[KEY]
            _verified(request, device)
            return _page(request, "own", {"codes": codes, "is_enrolled": True})
    context = {
        "error": WRONG if request.method == "POST" else "",
        "qr": _qr(user, key),
        "key": b32encode(bytes.fromhex(key)).decode(),
    }
    return _page(request, "own", context)


def _keep(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    context: dict[str, Any] = {"is_enrolled": True, "left": codes_left(user)}
    if request.method != "POST":
        return _page(request, "own", context)
    device, error, refusal = _checked(request)
    if device is None:
        return _page(request, "own", {**context, "error": error}, refusal)
    if "remove" not in request.POST:
        return _page(request, "own", {**context, "codes": renew_codes(user=user)})
    remove(user=user, actor=user)
    messages.success(request, "Your second factor is removed.")
    return redirect(PAGES[ENROLMENT])


def _checked(request: HttpRequest) -> tuple[Device | None, str, TooManyRequests | None]:
    """The device of the code that was sent, else what is wrong and the limit that refuses."""
    try:
        return check(request, current_user(request), request.POST.get("code", "")), WRONG, None
    except TooManyRequests as refusal:
        return None, str(refusal.detail), refusal


def _verified(request: HttpRequest, device: Device) -> None:
    django_otp.login(request, device)
    request.session.cycle_key()  # what was known of the session before is worth nothing now


def _page(
    request: HttpRequest,
    name: str,
    context: dict[str, Any],
    refusal: TooManyRequests | None = None,
) -> HttpResponse:
    site = {"title": "Second factor", **admin.site.each_context(request), **context}
    site["is_nav_sidebar_enabled"] = missing(request) is None
    page = TemplateResponse(request, f"iotflow/second_factor_{name}.html", site)
    if refusal is not None:
        page.status_code = refusal.status_code
        page["Retry-After"] = str(refusal.wait)
    return page


def _wanted(request: HttpRequest) -> str:
    """Where to go on: an address of this site, else the dashboard."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    hosts = {request.get_host()}
    if url_has_allowed_host_and_scheme(wanted, hosts, require_https=request.is_secure()):
        return wanted
    return reverse("admin:index")


def _qr(user: User, key: str) -> str:
    """What the app scans, as SVG to be put into the page."""
    address = TOTPDevice(user=user, key=key).config_url
    return segno.make(address, micro=False).svg_inline(scale=5, light="white")
