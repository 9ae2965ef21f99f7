"""What a form of the admin site changes, for the event that tells of it."""

from typing import Any

from django.db.models import QuerySet
from django.forms import ModelForm

Changes = dict[str, list[str]]


def changes_of(form: ModelForm) -> Changes:
    """The changed fields: name → [before, after], as text. For valid forms without secrets."""
    return {
        name: [_text(form.initial.get(name)), _text(form.cleaned_data[name])]
        for name in form.changed_data
    }


def _text(value: Any) -> str:
    is_many = isinstance(value, QuerySet | list)
    return ", ".join(sorted(map(str, value))) if is_many else str(value)
