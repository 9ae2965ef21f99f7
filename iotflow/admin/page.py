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
        user, meta = current_user(request), self.model._meta
        if not user.has_perm(f"{meta.app_label}.view_{meta.model_name}"):
            raise PermissionDenied
        found = get_object_or_404(self.model.objects.visible_to(user), pk=object_id)
        content = self.content(request, found)
        if isinstance(content, HttpResponse):
            response = content
        else:
            context = {
                **admin.site.each_context(request),
                "title": str(found),
                "opts": meta,
                "original": found,  # for the path in the heading
                "page": self,
                "may_change": user.has_perm(f"{meta.app_label}.change_{meta.model_name}"),
                **content,
            }
            response = TemplateResponse(request, f"iotflow/{self.url_name}.html", context)
        response["Cache-Control"] = "no-store"
        return response


def complaints(detail: Any) -> list[str]:
    """The sentences of a ValidationError of the API, each with the name that it is about."""
    return [f"{name}: {text}" for name, texts in dict(detail).items() for text in texts]
