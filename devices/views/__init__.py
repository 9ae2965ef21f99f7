"""Devices and groups over HTTP, by noun."""

from accounts.requests import current_actor, current_user
from devices.views.base import UserView, current_device

__all__ = ["UserView", "current_actor", "current_device", "current_user"]
