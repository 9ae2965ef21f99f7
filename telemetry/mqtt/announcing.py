"""What the broker has to be told about devices, as notices say.

Their configurations are retained there, commands are handed to who has subscribed, and connections
under keys that have ended are cut.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from django.utils import timezone

from devices import commands, configs, notices
from devices.models import BrokerNotice, Command, Device
from devices.notices import Subject
from devices.serializers.commands import own_command_body
from devices.serializers.configs import own_config_body
from iotflow.lib import json
from iotflow.lib.mqtt import Outgoing, Session

KICK = "iotflow/kick"
DELIVER_SECONDS = 5.0
ABOUT_COMMANDS = (Subject.COMMANDS, Subject.ASKED)


def announce(session: Session) -> bool:
    """Tell the broker what waits; whether it was told. Several bridges may tell it the same.

    Raises StoreAway and DatabaseError.
    """
    waiting = notices.waiting()
    about_commands = [notice for notice in waiting if notice.subject in ABOUT_COMMANDS]
    others = [notice for notice in waiting if notice.subject not in ABOUT_COMMANDS]
    return bool(waiting) and _tell(session, others) and _hand_out(session, about_commands)


def announce_all() -> int:
    """Have every configuration told anew, for a broker that has lost them; how many."""
    device_ids = sorted(configs.owners_of_any())
    notices.config_changed(device_ids)
    return len(device_ids)


def _tell(session: Session, waiting: Sequence[BrokerNotice]) -> bool:
    """A notice is done with when what the broker took is still so afterwards: then whoever was last
    to tell it has told it the truth.
    """
    told = {(notice.subject, notice.device_id): _message(notice) for notice in waiting}
    if session.deliver(told.values(), DELIVER_SECONDS) is None:
        return False
    notices.told([one for one in waiting if _message(one) == told[one.subject, one.device_id]])
    return True


def _hand_out(session: Session, waiting: Collection[BrokerNotice]) -> bool:
    """What a device has subscribed to, or had when it left a session, is sent by that. For another
    one it waits, until the device asks for it, here or by HTTP.
    """
    asked = {one.device_id: one.created_at for one in waiting if one.subject == Subject.ASKED}
    rested = timezone.now() - commands.REST
    found = commands.waiting({one.device_id: rested for one in waiting} | asked)
    heard = session.deliver(map(_command, found), DELIVER_SECONDS)
    if heard is None:
        return False
    sent = [one for one, is_heard in zip(found, heard, strict=True) if is_heard]
    commands.sent(sent)
    numbers = Counter(one.device_id for one in sent)
    more = {pk for pk, number in numbers.items() if number == commands.HANDED_MAX}
    notices.told([one for one in waiting if one.device_id not in more])
    return True


def _command(command: Command) -> Outgoing:
    body = {**own_command_body(command), "times_sent": command.times_sent + 1}
    return Outgoing(f"devices/{command.device_id}/commands", json.dumps(body))


def _message(notice: BrokerNotice) -> Outgoing:
    if notice.subject == Subject.KEYS:
        return Outgoing(KICK, str(notice.device_id).encode())
    topic = f"devices/{notice.device_id}/config"
    return Outgoing(topic, _config(notice.device_id), is_retained=True)


def _config(device_id: int) -> bytes:
    """As `GET /devices/config` answers it; empty, which ends what is retained, where none is."""
    if not Device.objects.filter(pk=device_id).exists():
        return b""
    newest = configs.current(device_id)
    return json.dumps(own_config_body(newest)) if newest.version else b""
