"""Devices as a table in a file: known by owner and name, changed or made row by row."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.utils.html import format_html
from import_export import fields, resources
from import_export.results import Result
from import_export.widgets import ForeignKeyWidget

from accounts.models import User
from devices import services
from devices.models import Device
from events import log
from events.sinks import Document
from iotflow.lib.batches import batched

NEEDED = ("owner", "name")
NAMES = (
    *("device_type", "status", "description", "location"),
    *("firmware_version", "hardware_version", "expected_interval", "grace"),
)
AT_ONCE = 500  # owners or devices looked up in one query
SHOWN = 200  # rows of a page; a row is 4 KB of it


class OwnerWidget(ForeignKeyWidget):
    """A user by username, of those who were looked up."""

    owners: Mapping[str, User] = {}

    def clean(self, value: str, row: Any = None, **kwargs: Any) -> User:
        user = self.owners.get(value.strip())
        if user is None:
            raise ValueError(f"there is no user {value}")
        return user


class Difference(resources.Diff):
    """Whole cells. Letter by letter, two long texts may take a second."""

    def as_html(self) -> list[str]:
        return [
            _cell("" if self.new else str(old), str(new))
            for old, new in zip(self.left, self.right, strict=True)
        ]


def _cell(old: str, new: str) -> str:
    return new if old == new else format_html("<del>{}</del> <ins>{}</ins>", old, new)


class Outcome(Result):
    """What every row did, of which a page shows a part: first those that change something."""

    def valid_rows(self) -> list[Any]:
        return sorted(super().valid_rows(), key=lambda row: row.is_skip())[:SHOWN]

    def row_errors(self) -> list[Any]:
        return super().row_errors()[:SHOWN]

    def append_invalid_row(self, *args: Any) -> None:
        if len(self.invalid_rows) < SHOWN:
            super().append_invalid_row(*args)

    def faults(self) -> Iterator[str]:
        """Why nothing was changed; empty where it was."""
        yield from (str(fault.error) for fault in self.base_errors)
        for number, errors in self.row_errors():
            yield from (f"Row {number}: {fault.error}" for fault in errors)
        for row in self.invalid_rows:
            yield f"Row {row.number}: {'; '.join(row.error.messages)}"


class DeviceResource(resources.ModelResource):
    """A new device has no key yet: keys are shown once, to one person, and not in a file.

    A table to import has texts only (devices.files). Its owners and devices are looked up before
    its first row; what follows from all of its rows is done after the last.
    """

    owner = fields.Field("owner", "owner", OwnerWidget(User, "username"))

    class Meta:
        model = Device
        import_id_fields = NEEDED
        fields = ("id", *NEEDED, *NAMES, "last_seen", "created_at")
        import_order = NEEDED
        export_order = fields
        skip_unchanged = True
        report_skipped = True
        store_instance = True

    def __init__(self, actor: str = "system", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._actor = actor
        self._known: dict[tuple[int, str], Device] = {}
        self._before: dict[str, Any] = {}
        self._changed: list[int] = []
        self._events: list[Document] = []

    @classmethod
    def get_diff_class(cls) -> type[Difference]:
        return Difference

    @classmethod
    def get_result_class(cls) -> type[Outcome]:
        return Outcome

    def get_import_fields(self) -> list[Any]:
        """What only the server knows is left as it is, whatever a file says."""
        return [self.fields[name] for name in (*NEEDED, *NAMES)]

    def rows(self, devices: QuerySet[Device], **kwargs: Any) -> Iterator[list[Any]]:
        """The names of the columns, then a row for each device, as they are read."""
        columns = self.get_export_fields()
        yield [column.column_name for column in columns]
        for device in devices.iterator():
            yield [column.export(device, **kwargs) for column in columns]

    def before_import(self, dataset: Any, **kwargs: Any) -> None:
        owners = {user.username: user for user in _owners(map(str.strip, dataset["owner"]))}
        self.fields["owner"].widget.owners = owners
        named = zip(dataset["owner"], dataset["name"], strict=True)
        pairs = {(owners[o.strip()].pk, name) for o, name in named if o.strip() in owners}
        self._known = {(device.owner_id, device.name): device for device in _devices(pairs)}

    def get_instance(self, instance_loader: Any, row: Mapping[str, str]) -> Device | None:
        owner = self.fields["owner"].widget.owners.get(row["owner"].strip())
        return self._known.get((owner.pk, row["name"])) if owner else None

    def after_init_instance(self, instance: Device, new: bool, row: Any, **kwargs: Any) -> None:
        self._before = {} if new else {name: getattr(instance, name) for name in NAMES}

    def validate_instance(
        self, instance: Device, import_validation_errors: Any = None, validate_unique: bool = True
    ) -> None:
        """Of the fields only: that owners exist and names are unique was looked up."""
        errors = dict(import_validation_errors or {})
        try:
            instance.clean_fields(exclude={*errors, "owner"})
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if errors:
            raise ValidationError(errors)

    def save_instance(self, instance: Device, is_create: bool, row: Any, **kwargs: Any) -> None:
        self._known[instance.owner_id, instance.name] = instance
        if kwargs["dry_run"]:
            return
        if is_create:
            instance.save(force_insert=True)
            self._events.append(services.registered(instance, self._actor))
            return
        # What the file does not name moves on meanwhile: last_seen, epochs.
        changed = [name for name, value in self._before.items() if value != getattr(instance, name)]
        instance.save(update_fields=[*changed, "updated_at"])
        self._changed.append(instance.pk)
        self._events += services.changes(instance, self._before, self._actor)

    def after_import(self, dataset: Any, result: Any, **kwargs: Any) -> None:
        """Sequences are left alone: no id comes from a file, and others take some meanwhile."""
        services.invalidate_keys(self._changed)
        log.record_all(self._events)


def _owners(usernames: Iterable[str]) -> Iterator[User]:
    for names in batched(sorted(set(usernames)), AT_ONCE):
        yield from User.objects.filter(username__in=names)


def _devices(pairs: Iterable[tuple[int, str]]) -> Iterator[Device]:
    """Those of these owners with these names, and no others."""
    for some in batched(sorted(pairs), AT_ONCE):
        wanted = Q()
        for owner, named in groupby(some, itemgetter(0)):
            wanted |= Q(owner=owner, name__in=[name for _, name in named])
        yield from Device.objects.select_related("owner").filter(wanted)
