"""What a deletion of the user would take, before anybody asks for it."""

from typing import Any

from django.http import HttpRequest

from accounts.models import Token, User
from devices.models import ApiKey, GroupMembership


def content(request: HttpRequest, user: User) -> dict[str, Any]:
    return {
        "goes": {
            "devices": user.devices.count(),
            "keys of devices": ApiKey.objects.filter(device__owner=user).count(),
            "groups": user.device_groups.count(),
            "memberships in groups": GroupMembership.objects.filter(group__owner=user).count(),
            "tokens": Token.objects.filter(user=user).count(),
        },
        "is_self": user == request.user,
        "may_delete": request.user.has_perm("accounts.delete_user"),
    }
