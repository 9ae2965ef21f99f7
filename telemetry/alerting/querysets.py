"""Reads of rules: who may see first, shape second."""

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    from accounts.models import User


class AlertRules(models.QuerySet[Any]):
    def visible_to(self, user: "User") -> "AlertRules":
        return self if user.is_staff else self.filter(owner=user)
