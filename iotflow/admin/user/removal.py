"""What a deletion of the user would take, before anybody asks for it."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.models import User


def content(request: HttpRequest, user: User) -> dict[str, Any]:
    _, counts, _, _ = admin.site.get_model_admin(User).get_deleted_objects([user], request)
    return {"goes": {what: count for what, count in counts.items() if what != "users"}}
