"""Ids: the largest there may be, and ids in addresses."""

from django.urls.converters import IntConverter

MAX = 2**63 - 1


def number(text: str) -> int | None:
    """The id that `text` writes in plain digits; None for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    found = int(text)
    return found if found <= MAX else None


class IdConverter(IntConverter):
    """`<id:device_id>`. What does not fit into 64 bits is no row's; SQLite would fail at it."""

    def to_python(self, value: str) -> int:
        number = int(value)
        if number > MAX:
            raise ValueError
        return number
