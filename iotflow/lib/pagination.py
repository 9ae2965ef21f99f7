"""Lists by `limit` and `offset`, with the total in `meta`."""

import re
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings
from django.db.models import Model, QuerySet
from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

M = TypeVar("M", bound=Model)
OFFSET_MAX = 2**31


def limit_parameter(default: int, most: int) -> OpenApiParameter:
    """`limit`, for the schema."""
    return OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    )


PAGE = [
    limit_parameter(settings.LIST_LIMIT, settings.LIST_LIMIT_MAX),
    OpenApiParameter(
        "offset",
        {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "default": 0},
        description="How many to skip.",
    ),
]
WHOLE_NUMBER = re.compile(r"-?\d{1,11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """`rows` of a list and its `meta`: `{limit, offset, returned, total}`."""

    rows: list[Any]
    meta: dict[str, int]


class PageMeta(serializers.Serializer[Any]):
    """`meta`, for the schema."""

    limit = serializers.IntegerField()
    offset = serializers.IntegerField()
    returned = serializers.IntegerField()
    total = serializers.IntegerField()


def paginate(request: Request, queryset: QuerySet[M]) -> Page:
    """The page that the query asks for: two queries, a COUNT and the rows. 400 names the field."""
    limit = whole_number(
        request.query_params, "limit", settings.LIST_LIMIT, 1, settings.LIST_LIMIT_MAX
    )
    offset = whole_number(request.query_params, "offset", 0, 0, OFFSET_MAX)
    total = queryset.count()
    rows = list(queryset[offset : offset + limit])
    return Page(rows, {"limit": limit, "offset": offset, "returned": len(rows), "total": total})


def whole_number(query: QueryDict, name: str, default: int, least: int, most: int) -> int:
    """An integer of the query string within its bounds; a 400 that names it otherwise."""
    text = query.get(name, "")
    if not text:
        return default
    if not WHOLE_NUMBER.fullmatch(text):
        raise ValidationError({name: ["Must be a whole number."]})
    if not least <= int(text) <= most:
        raise ValidationError({name: [f"Must be from {least} to {most}."]})
    return int(text)


def flag(request: Request, name: str, default: bool) -> bool:
    """A true/false of the query string; a 400 that names it otherwise."""
    text = request.query_params.get(name, "").lower()
    if not text:
        return default
    if text in ("true", "1", "yes"):
        return True
    if text in ("false", "0", "no"):
        return False
    raise ValidationError({name: ["Must be true or false."]})
