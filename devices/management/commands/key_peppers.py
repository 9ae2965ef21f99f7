from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db.models import Count
from django.utils import timezone

from devices import keys
from devices.models import ApiKey


class Command(BaseCommand):
    help = "Count the keys that have not ended, by the pepper they are under."

    def handle(self, *args: Any, **options: Any) -> str:
        names = {
            "": "not noted: made before it was, under the pepper of then",
            **{keys.fingerprint(pepper): "former" for pepper in settings.API_KEY_PEPPERS_OLD},
            keys.fingerprint(settings.API_KEY_PEPPER): "present",
        }
        counts = (
            ApiKey.objects.unended(timezone.now())
            .order_by("pepper")
            .values_list("pepper")
            .annotate(Count("pk"))
        )
        lines = [
            f"{pepper or '-':8}  {count:>8}  {names.get(pepper, 'not configured: refused')}"
            for pepper, count in counts
        ]
        return "\n".join(lines) or "There are no keys."
