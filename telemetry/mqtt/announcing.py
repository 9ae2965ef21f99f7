"""What the broker has to be told about devices, as notices say.

Their configurations are retained there, and connections under keys that have ended are cut.
"""

from devices import configs, notices
from devices.models import BrokerNotice, Device
from devices.notices import Subject
from devices.serializers.configs import own_config_body
from iotflow.lib import json
from iotflow.lib.mqtt import Outgoing, Session

KICK = "iotflow/kick"
DELIVER_SECONDS = 5.0


def announce(session: Session) -> bool:
    """Tell the broker what waits; whether it was told. Several bridges may tell it the same.

    A notice is done with when what the broker took is still so afterwards: then whoever was last
    to tell it has told it the truth. Raises StoreAway and DatabaseError.
    """
    waiting = notices.waiting()
    if not waiting:
        return False
    told = {(notice.subject, notice.device_id): _message(notice) for notice in waiting}
    if not session.deliver(told.values(), DELIVER_SECONDS):
        return False
    notices.told([one for one in waiting if _message(one) == told[one.subject, one.device_id]])
    return True


def announce_all() -> int:
    """Have every configuration told anew, for a broker that has lost them; how many."""
    device_ids = sorted(configs.owners_of_any())
    notices.config_changed(device_ids)
    return len(device_ids)


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
