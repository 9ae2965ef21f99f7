from django.urls import path

from telemetry.views import live, reading, writing

urlpatterns = [
    path("telemetry", writing.SubmitView.as_view()),
    path("telemetry/<id:device_id>/latest", reading.LatestView.as_view()),
    path("telemetry/<id:device_id>", reading.HistoryView.as_view()),
    path("telemetry/batch", writing.BatchView.as_view()),
    path("telemetry/bulk", writing.BulkView.as_view()),
    path("telemetry/status", reading.StoreStatusView.as_view()),
    path("telemetry/<id:device_id>/aggregated", reading.AggregatedView.as_view()),
    path("telemetry/<id:device_id>/export", reading.ExportView.as_view()),
    path("telemetry/<id:device_id>/stream", live.DeviceStreamView.as_view()),
    path("telemetry/user/<uuid:user_id>", reading.FeedView.as_view()),
    path("groups/<id:group_id>/telemetry/latest", reading.GroupLatestView.as_view()),
    path("groups/<id:group_id>/stream", live.GroupStreamView.as_view()),
]
