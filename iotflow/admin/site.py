"""The admin site: the dashboard in front, and pages of devices, groups and users beside
their forms."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG
from django.db import DataError
from django.db.models import Field, UUIDField
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite

from accounts.requests import current_user
from iotflow.admin import dashboard, device, group, search, second_factor, user
from iotflow.lib import ids

logger = logging.getLogger(__name__)
LISTS = ("changelist_view", "export_action")
UNASKABLE = (IncorrectLookupParameters, DataError, ValueError, OverflowError)


class Site(UnfoldAdminSite):
    index_title = "Dashboard"
    index_template = "iotflow/dashboard.html"

    def extra_urls(self) -> list[URLPattern]:
        """Before those of the models, whose forms would take `…/device/1/overview/` too."""
        return [
            path("code/", self.admin_view(second_factor.code), name="code"),
            path("second-factor/", self.admin_view(second_factor.own), name="second_factor"),
            path("dashboard/", self.admin_view(dashboard.refreshed), name="dashboard"),
            *(page.url() for page in (*device.PAGES, *group.PAGES, *user.PAGES)),
        ]

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Callable[..., Any]:
        is_list = getattr(view, "__name__", "") in LISTS
        view = second_factor.behind(_forgiving(view) if is_list else view)
        return super().admin_view(view, cacheable)

    @second_factor.before
    def logout(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().logout(request, extra_context)

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        figures = dashboard.figures(current_user(request))
        return super().index(request, {**figures, **(extra_context or {})})

    def search(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Unfold's own reads every row that matches, and remembers it whoever may see it."""
        return search.results(request)


def _forgiving(view: Callable[..., Any]) -> Callable[..., Any]:
    """A list that leads back to itself when its address asks for what no database can look for.

    Django does so only for what it notices before it asks the database.
    """

    of_rows = view.__self__.model._meta.pk  # type: ignore[attr-defined]

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        back = HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        if _is_nonsense(request, of_rows):
            return back
        try:
            response: HttpResponse = view(request, *args, **kwargs)
        except UNASKABLE as error:
            if ERROR_FLAG in request.GET or not request.GET:
                raise
            logger.warning("%s cannot be asked: %r", request.get_full_path(), error)
            return back
        return response

    return answer


def _is_nonsense(request: HttpRequest, of_rows: "Field[Any, Any]") -> bool:
    """Rows ticked that there cannot be, or a pattern: each database fails at a broken one in its
    own way, and a hard one keeps it busy."""
    ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
    is_key = _is_uuid if isinstance(of_rows, UUIDField) else ids.number
    return any("regex" in name for name in request.GET) or not all(map(is_key, ticked))


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
