"""Serializer fields for all apps."""

from typing import Any

from rest_framework import serializers

from iotflow.lib.timeparse import format_ms, to_ms


class Instant(serializers.DateTimeField):
    """A time in an answer: ISO 8601 in UTC with milliseconds and Z."""

    def to_representation(self, value: Any) -> str:
        return format_ms(to_ms(value))
