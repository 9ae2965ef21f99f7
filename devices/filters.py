"""How lists of devices are narrowed."""

import django_filters
from django.db.models import Q, QuerySet
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from devices.models import Device


class DeviceFilter(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(choices=Device.Status.choices)
    device_type = django_filters.CharFilter(max_length=50)
    search = django_filters.CharFilter(
        method="matching", max_length=100, help_text="Part of the name, description or location."
    )

    class Meta:
        model = Device
        fields = ["status", "device_type"]

    def matching(self, queryset: QuerySet[Device], name: str, text: str) -> QuerySet[Device]:
        return queryset.filter(
            Q(name__icontains=text) | Q(description__icontains=text) | Q(location__icontains=text)
        )


def filtered(queryset: QuerySet[Device], query: QueryDict) -> QuerySet[Device]:
    """The devices that the query string asks for; a 400 names every bad filter."""
    devices = DeviceFilter(query, queryset=queryset)
    if not devices.is_valid():
        raise ValidationError(devices.errors)
    return devices.qs
