"""Who may go on listening to what; asked again and again, for all listeners together."""

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q
from django.utils import timezone

from accounts.proofs import Proof, standing
from devices.models import ApiKey, Device, DeviceGroup


@dataclass(frozen=True, slots=True)
class KeyPermit:
    """A device listens to itself by one of its keys."""

    device_id: int
    key_id: int

    @classmethod
    def held(cls, permits: Collection["KeyPermit"]) -> set["KeyPermit"]:
        keys = ApiKey.objects.valid(timezone.now()).filter(pk__in={one.key_id for one in permits})
        valid = set(keys.values_list("device_id", "pk"))
        return {one for one in permits if (one.device_id, one.key_id) in valid}


@dataclass(frozen=True, slots=True)
class WriterPermit(KeyPermit):
    """The same of one that may write: neither switched off, nor its owner."""

    @classmethod
    def held(cls, permits: Collection[KeyPermit]) -> set[KeyPermit]:
        devices = Device.objects.filter(pk__in={one.device_id for one in permits})
        off = Q(status=Device.Status.INACTIVE) | Q(owner__is_active=False)
        writing = set(devices.exclude(off).values_list("pk", flat=True))
        return KeyPermit.held([one for one in permits if one.device_id in writing])


@dataclass(frozen=True, slots=True)
class UserPermit:
    """A user listens to a device or a group: their own, or anybody's for staff."""

    proof: Proof
    device_id: int = 0
    group_id: int = 0

    @classmethod
    def held(cls, permits: Collection["UserPermit"]) -> set["UserPermit"]:
        people = standing({one.proof for one in permits})
        devices = Device.objects.filter(pk__in={one.device_id for one in permits if one.device_id})
        groups = DeviceGroup.objects.filter(
            pk__in={one.group_id for one in permits if one.group_id}
        )
        owners = {
            **{("device", pk): owner for pk, owner in devices.values_list("pk", "owner_id")},
            **{("group", pk): owner for pk, owner in groups.values_list("pk", "owner_id")},
        }
        held = set()
        for one in permits:
            what = ("device", one.device_id) if one.device_id else ("group", one.group_id)
            who, owner = people.get(one.proof), owners.get(what)
            if who and owner is not None and (who.is_staff or who.user_id == owner):
                held.add(one)
        return held
