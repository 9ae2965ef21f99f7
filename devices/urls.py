from django.urls import path

from devices import config_views, views

urlpatterns = [
    path("devices", views.DevicesView.as_view()),
    path("devices/register", views.RegisterView.as_view()),
    path("devices/status", views.OwnStatusView.as_view()),
    path("devices/heartbeat", views.HeartbeatView.as_view()),
    path("devices/config", config_views.DeviceConfigView.as_view()),
    path("devices/credentials", views.CredentialsView.as_view()),
    path("devices/user/<uuid:user_id>", views.DevicesOfUserView.as_view()),
    path("devices/<int:device_id>/status", views.StatusView.as_view()),
    path("devices/<int:device_id>/groups", views.GroupsOfDeviceView.as_view()),
    path("groups", views.GroupsView.as_view()),
    path("groups/<int:group_id>", views.OneGroupView.as_view()),
    path("groups/<int:group_id>/devices", views.GroupDevicesView.as_view()),
    path("groups/<int:group_id>/devices/<int:device_id>", views.GroupDeviceView.as_view()),
    path("groups/<int:group_id>/devices/bulk", views.GroupBulkView.as_view()),
    path("admin/devices", views.AllDevicesView.as_view()),
    path("admin/devices/statuses", views.AllStatusesView.as_view()),
    path("admin/devices/<int:device_id>", views.AnyDeviceView.as_view()),
    path("admin/devices/<int:device_id>/status", views.AdminStatusView.as_view()),
    path("devices/config/reported", config_views.ConfigReportView.as_view()),
    path("devices/<int:device_id>/config", config_views.WantedConfigView.as_view()),
    path("devices/<int:device_id>/config/history", config_views.ConfigHistoryView.as_view()),
    path("devices/<int:device_id>/config/rollback", config_views.ConfigRollbackView.as_view()),
]
