"""Devices as a table in a file: known by owner and name, changed or made row by row."""

from typing import Any

from django.core.exceptions import ValidationError
from import_export import fields, resources
from import_export.widgets import ForeignKeyWidget

from accounts.models import User
from devices import services
from devices.models import Device

NEEDED = ("owner", "name")
NAMES = (
    *("device_type", "status", "description", "location"),
    *("firmware_version", "hardware_version"),
)


class OwnerWidget(ForeignKeyWidget):
    """A user by username."""

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> User:
        user = User.objects.filter(username=str(value or "").strip()).first()
        if user is None:
            raise ValueError(f"there is no user {value}")
        return user


class DeviceResource(resources.ModelResource):
    """A new device has no key yet: keys are shown once, to one person, and not in a file."""

    owner = fields.Field("owner", "owner", OwnerWidget(User, "username"))

    class Meta:
        model = Device
        import_id_fields = NEEDED
        fields = ("id", *NEEDED, *NAMES, "last_seen", "created_at")
        import_order = NEEDED
        export_order = fields
        skip_unchanged = True
        report_skipped = True
        clean_model_instances = True
        store_instance = True

    def __init__(self, actor: str = "system", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._actor = actor
        self._before: dict[str, Any] = {}

    def get_queryset(self) -> Any:
        return Device.objects.select_related("owner")

    def get_import_fields(self) -> list[Any]:
        """What only the server knows is left as it is, whatever a file says."""
        return [self.fields[name] for name in (*NEEDED, *NAMES)]

    def before_import(self, dataset: Any, **kwargs: Any) -> None:
        headers = dataset.headers or []
        if missing := [name for name in NEEDED if name not in headers]:
            raise ValidationError(f"The file has no column {' and no column '.join(missing)}.")

    def before_save_instance(self, instance: Device, row: Any, **kwargs: Any) -> None:
        known = Device.objects.filter(pk=instance.pk).first() if instance.pk else None
        self._before = {name: getattr(known, name) for name in NAMES} if known else {}

    def after_save_instance(self, instance: Device, row: Any, **kwargs: Any) -> None:
        if kwargs.get("dry_run"):
            return
        if self._before:
            services.announce_change(device=instance, before=self._before, actor=self._actor)
        else:
            services.record_registered(device=instance, actor=self._actor)
