"""The admin site: the dashboard in front, and pages of devices beside their forms."""

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite

from iotflow.admin import dashboard, device


class Site(UnfoldAdminSite):
    index_title = "Dashboard"
    index_template = "iotflow/dashboard.html"
    enable_nav_sidebar = True

    def extra_urls(self) -> list[URLPattern]:
        """Before those of the models, whose forms would take `…/device/1/overview/` too."""
        return [
            path("dashboard/", self.admin_view(dashboard.refreshed), name="dashboard"),
            *(
                path(
                    f"devices/device/<id:device_id>/{page.name}/",
                    self.admin_view(page.view),
                    name=f"device_{page.name}",
                )
                for page in device.PAGES
            ),
        ]

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        return super().index(request, {**dashboard.figures(), **(extra_context or {})})
