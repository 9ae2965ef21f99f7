"""`Idempotency-Key`: the same request again is answered again, and done once."""

import re

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

FORM = re.compile(r"[\x21-\x7e]{1,255}")


def parameter(description: str) -> OpenApiParameter:
    return OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
        OpenApiParameter.HEADER,
        description=description,
    )


def key_of(request: Request) -> str | None:
    """The key that a request names; a 400 where it is none."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not FORM.fullmatch(key):
        raise ValidationError({"Idempotency-Key": ["1 to 255 visible ASCII characters."]})
    return key
