from django.urls import include, path
from rest_framework.routers import SimpleRouter

from telemetry.alerting import views as alerting
from telemetry.notifications import views as notifications
from telemetry.views import live, reading, writing

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("alert-rules", alerting.RuleViewSet, "alert-rule")
router.register("notification-channels", notifications.ChannelViewSet, "notification-channel")

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
    path("alerts", alerting.AlertsView.as_view()),
    path("alerts/<uuid:alert_id>", alerting.AlertView.as_view()),
    path("alerts/<uuid:alert_id>/acknowledge", alerting.AcknowledgeView.as_view()),
    path("alerts/<uuid:alert_id>/resolve", alerting.ResolveView.as_view()),
    path("alerts/<uuid:alert_id>/comment", alerting.CommentView.as_view()),
    path("deliveries/<uuid:delivery_id>/replay", notifications.ReplayView.as_view()),
    path("", include(router.urls)),
]
