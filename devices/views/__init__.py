"""Devices and groups over HTTP, by noun."""

from devices.views.base import UserView, current_device, current_user

__all__ = ["UserView", "current_device", "current_user"]
