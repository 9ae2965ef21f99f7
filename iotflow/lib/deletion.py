"""A deletion in the admin site says what it takes in counts: Django's own reads all of it."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

NAMED_MAX = 10
AT_ONCE_MAX = 500  # their confirmation is a form with a field for each


class CountedDeletion:
    """Of a ModelAdmin. `goes_along` leads to what is deleted with it, as a filter would."""

    model: type[Model]
    goes_along: tuple[str, ...] = ()
    also_erased = ""

    @admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        if chosen.count() > AT_ONCE_MAX:
            text = f"At most {AT_ONCE_MAX} are deleted at once. Nothing was deleted."
            messages.error(request, text)
            return None
        answer: HttpResponse | None = delete_selected(self, request, chosen)  # type: ignore[arg-type]
        return answer

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What to show, counts by name, what may not be deleted, and nothing that is protected."""
        found, meta, site = list(objs), self.model._meta, admin.site
        counts = {str(meta.verbose_name_plural): len(found)}
        lacking = {
            str(meta.verbose_name)
            for one in found
            if not self.has_delete_permission(request, one)  # type: ignore[attr-defined]
        }
        for path in self.goes_along:
            related = self._at(path)
            counts[str(related._meta.verbose_name_plural)] = count = self._count(found, path)
            if (
                count
                and site.is_registered(related)
                and not site.get_model_admin(related).has_delete_permission(request)
            ):
                lacking.add(str(related._meta.verbose_name))
        shown = [f"{capfirst(meta.verbose_name)}: {one}" for one in found[:NAMED_MAX]]
        if len(found) > NAMED_MAX:
            shown.append(f"… and {len(found) - NAMED_MAX} more")
        return [*shown, *filter(None, [self.also_erased])], counts, lacking, []

    def _at(self, path: str) -> Any:
        model: Any = self.model
        for name in path.split("__"):
            model = model._meta.get_field(name).related_model
        return model

    def _count(self, found: list[Any], path: str) -> int:
        """How many are there for all of `found`: a row of the join for each."""
        doomed = self.model._base_manager.filter(pk__in=[one.pk for one in found])
        return doomed.filter(**{f"{path}__isnull": False}).count()
