"""Where a page ended, as an opaque text for the client to send back."""

import base64
import binascii

from rest_framework.exceptions import ValidationError

from iotflow.lib import json

BAD = {"cursor": ["This is no cursor of this query; leave it out to begin again."]}


def encode(parts: list[int | str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts)).decode().rstrip("=")


def decode(text: str) -> object:
    """What `encode` was given, if it was: a client may send anything. Raises ValidationError."""
    try:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error) as error:
        raise ValidationError(BAD) from error
