from django.urls import include, path
from rest_framework.routers import SimpleRouter

from devices.views import commands, configs, own
from devices.views.devices import DeviceViewSet
from devices.views.groups import GroupViewSet, MemberViewSet
from devices.views.keys import KeyViewSet
from devices.views.staff import StaffDeviceViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("devices", DeviceViewSet, "device")
router.register("devices/<id:device_id>/keys", KeyViewSet, "key")
router.register("groups", GroupViewSet, "group")
router.register("groups/<id:group_id>/devices", MemberViewSet, "member")
router.register("admin/devices", StaffDeviceViewSet, "staff-device")

urlpatterns = [
    path("devices/status", own.OwnStatusView.as_view()),
    path("devices/heartbeat", own.HeartbeatView.as_view()),
    path("devices/config", configs.DeviceConfigView.as_view()),
    path("devices/config/reported", configs.ConfigReportView.as_view()),
    path("devices/credentials", own.CredentialsView.as_view()),
    path("devices/commands", commands.OwnCommandsView.as_view()),
    path("devices/commands/stream", commands.CommandStreamView.as_view()),
    path(
        "devices/commands/<uuid:command_id>/acknowledge",
        commands.AcknowledgeCommandView.as_view(),
    ),
    path("devices/commands/<uuid:command_id>/result", commands.CommandResultView.as_view()),
    path("devices/<id:device_id>/commands", commands.DeviceCommandsView.as_view()),
    path("groups/<id:group_id>/commands", commands.GroupCommandsView.as_view()),
    path("commands/<uuid:command_id>", commands.CommandView.as_view()),
    path("commands/<uuid:command_id>/cancel", commands.CancelView.as_view()),
    path("devices/<id:device_id>/config", configs.WantedConfigView.as_view()),
    path("devices/<id:device_id>/config/history", configs.ConfigHistoryView.as_view()),
    path("devices/<id:device_id>/config/rollback", configs.ConfigRollbackView.as_view()),
    path("", include(router.urls)),
]
