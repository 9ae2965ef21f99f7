"""The admin site: the dashboard in front, and pages of devices, groups and users beside
their forms."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite

from accounts.requests import current_user
from iotflow.admin import dashboard, device, group, search, user


class Site(UnfoldAdminSite):
    index_title = "Dashboard"
    index_template = "iotflow/dashboard.html"

    def extra_urls(self) -> list[URLPattern]:
        """Before those of the models, whose forms would take `…/device/1/overview/` too."""
        return [
            path("dashboard/", self.admin_view(dashboard.refreshed), name="dashboard"),
            *(page.url() for page in (*device.PAGES, *group.PAGES, *user.PAGES)),
        ]

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
