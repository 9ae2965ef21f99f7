from django.urls import path

from telemetry import views

urlpatterns = [
    path("telemetry", views.SubmitView.as_view()),
    path("telemetry/status", views.StoreStatusView.as_view()),
    path("telemetry/<int:device_id>", views.HistoryView.as_view()),
    path("telemetry/<int:device_id>/latest", views.LatestView.as_view()),
    path("telemetry/user/<uuid:user_id>", views.FeedView.as_view()),
]
