"""A page of one device, group or user beside its form in the admin site: a tab of several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from accounts.models import User
from accounts.permissions import may_change, sees_all
from accounts.requests import current_user

Content = dict[str, Any] | HttpResponse


@dataclass(frozen=True, slots=True)
class Page:
    """`content` is what it shows beyond the heading, or its answer; `name` is in its address.

    The `model` has `visible_to`. Without a title it is no tab: something that a tab asks for.
    """

    model: Any
    name: str
    title: str
    content: Callable[[HttpRequest, Any], Content]

    @property
    def url_name(self) -> str:
        return f"{self.model._meta.model_name}_{self.name}"

    def url(self) -> URLPattern:
        meta = self.model._meta
        place = f"{meta.app_label}/{meta.model_name}/<id:object_id>/{self.name}/"
        return path(place, admin.site.admin_view(self.view), name=self.url_name)

    def view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """To look, one has to see it; to post, one may change it."""
        user = current_user(request)
        found = get_object_or_404(self._seen_by(user), pk=object_id)
        is_changeable = may_change(user, found)
        if request.method == "POST" and not is_changeable:
            raise PermissionDenied
        content = self.content(request, found)
        if isinstance(content, HttpResponse):
            response = content
        else:
            context = {
                **admin.site.each_context(request),
                "title": str(found),
                "opts": self.model._meta,
                "original": found,  # for the path in the heading
                "page": self,
                "may_change": is_changeable,
                "may_delete": self._may_delete(request, found),
                **content,
            }
            response = TemplateResponse(request, f"iotflow/{self.url_name}.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def _may_delete(self, request: HttpRequest, found: Any) -> bool:
        return admin.site.get_model_admin(self.model).has_delete_permission(request, found)

    def _seen_by(self, user: User) -> Any:
        if sees_all(user, self.model):
            return self.model.objects.visible_to(user)
        if hasattr(self.model, "owner"):
            return self.model.objects.filter(owner=user)
        raise PermissionDenied


def complaints(detail: Any) -> list[str]:
    """The sentences of a ValidationError of the API, each with the name that it is about."""
    return [f"{name}: {text}" for name, texts in dict(detail).items() for text in texts]
