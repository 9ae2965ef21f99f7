"""Every address of IoTFlow."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path, re_path, register_converter
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerView

from iotflow import scraping, views
from iotflow.eventstream import EventStreamView
from iotflow.lib.ids import IdConverter

register_converter(IdConverter, "id")
docs = SpectacularSwaggerView.as_view(url_name="schema", template_name="iotflow/docs.html")

# Tried in this order, one after the other: what is asked for most often comes first.
api: list[URLPattern | URLResolver] = [
    path("", include("telemetry.urls")),
    path("", include("devices.urls")),
    path("", include("accounts.urls")),
    path("", include("events.urls")),
    path("events/stream", EventStreamView.as_view()),
    path("admin/stats", views.StatsView.as_view()),
    path("admin/<path:path>", views.AdminOnlyView.as_view()),
    path("health", views.HealthView.as_view()),
    path("status", views.StatusView.as_view()),
]

urlpatterns = [
    path("api/v1/", include(api)),
    path("", views.front),
    path("favicon.ico", RedirectView.as_view(url=static("iotflow/icon.svg"))),
    path("health", views.HealthView.as_view()),
    path("health/live", views.LiveView.as_view()),
    path("health/ready", views.ReadyView.as_view()),
    path("status", views.StatusView.as_view()),
    path("metrics", scraping.metrics),
    path("admin/login/", views.admin_login),
    path("admin/", admin.site.urls),
    path("api/v1", views.front),
    path("api/schema", views.SchemaView.as_view(), name="schema"),
    path("api/docs", docs, name="docs"),
    re_path(r"^api/", views.api_not_found),
]

handler400 = "iotflow.views.bad_request"
handler403 = "iotflow.views.forbidden"
handler404 = "iotflow.views.not_found"
handler500 = "iotflow.views.server_error"
