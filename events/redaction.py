"""What may stand in an event: an allow-list of the payload's keys, by kind.

What nobody has allowed is taken for a secret: the event says that something was there, and no more.
"""

import logging
from collections.abc import Mapping
from typing import Any

from events.kinds import Kind

logger = logging.getLogger(__name__)
REDACTED = "[redacted]"

KEY = frozenset({"key_id", "prefix", "label"})
GROUP = frozenset({"group_id"})
SWITCHED = frozenset({"before", "after"})
LOGIN = frozenset({"login"})
CHANGES = frozenset({"changes"})
ALERT = frozenset({"alert_id", "rule_id"})
RULE = frozenset({"rule_id"})
COMMAND = frozenset({"command_id", "name"})
CHANNEL = frozenset({"channel_id"})
NOTHING: frozenset[str] = frozenset()

ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.USER_REGISTERED: NOTHING,
    Kind.USER_LOGIN: NOTHING,
    Kind.USER_LOGIN_FAILED: LOGIN,
    Kind.USER_LOGIN_THROTTLED: LOGIN,
    Kind.USER_TOKEN_REFUSED: frozenset({"count"}),
    Kind.USER_LOGOUT: NOTHING,
    Kind.USER_TOKENS_ENDED: NOTHING,
    Kind.USER_CHANGED: CHANGES,
    Kind.USER_TOTP_ENROLLED: NOTHING,
    Kind.USER_TOTP_FAILED: NOTHING,
    Kind.USER_TOTP_REMOVED: NOTHING,
    Kind.USER_RECOVERY_CODE_USED: frozenset({"left"}),
    Kind.USER_DEACTIVATED: NOTHING,
    Kind.USER_ACTIVATED: NOTHING,
    Kind.USER_DELETED: frozenset({"devices", "device_groups", "tokens"}),
    Kind.ROLE_CHANGED: CHANGES | {"granted", "taken"},
    Kind.DEVICE_REGISTERED: frozenset({"device_type"}),
    Kind.DEVICE_CHANGED: CHANGES,
    Kind.DEVICE_STATUS_CHANGED: SWITCHED,
    Kind.DEVICE_CAME_ONLINE: frozenset({"at"}),
    Kind.DEVICE_WENT_OFFLINE: frozenset({"at"}),
    Kind.DEVICE_KEY_ROTATED: KEY | {"grace_seconds"},
    Kind.DEVICE_KEY_CREATED: KEY,
    Kind.DEVICE_KEY_REVOKED: KEY,
    Kind.DEVICE_KEY_REFUSED: frozenset({"count", "key_id", "prefix"}),
    Kind.DEVICE_CONFIG_READ: NOTHING,
    Kind.DEVICE_CONFIG_CHANGED: frozenset({"version", "changes", "paths"}),
    Kind.DEVICE_CONFIG_ROLLED_BACK: frozenset({"version", "changes", "paths", "rolled_back_to"}),
    Kind.DEVICE_CONFIG_REPORTED: frozenset({"version", "status"}),
    Kind.COMMAND_CREATED: COMMAND,
    Kind.COMMAND_SENT: COMMAND,
    Kind.COMMAND_ACKNOWLEDGED: COMMAND,
    Kind.COMMAND_SUCCEEDED: COMMAND,
    Kind.COMMAND_FAILED: COMMAND,
    Kind.COMMAND_EXPIRED: COMMAND,
    Kind.COMMAND_CANCELLED: COMMAND,
    Kind.DEVICE_DELETED: frozenset({"keys", "memberships"}),
    Kind.DEVICE_ERASED: frozenset({"rows"}),
    Kind.GROUP_CREATED: GROUP,
    Kind.GROUP_CHANGED: GROUP | CHANGES,
    Kind.GROUP_DELETED: GROUP,
    Kind.GROUP_DEVICE_ADDED: GROUP,
    Kind.GROUP_DEVICE_REMOVED: GROUP,
    Kind.TELEMETRY_SUBMITTED: frozenset({"timestamp", "measurements", "readings", "first", "last"}),
    Kind.TELEMETRY_IMPORTED: frozenset(
        {"readings", "source", "shifted_ms", "complete", "rows_skipped"}
    ),
    Kind.TELEMETRY_DELETED: frozenset({"start_time", "stop_time"}),
    Kind.TELEMETRY_PURGED: frozenset({"devices", "days", "values"}),
    Kind.ALERT_RULE_CREATED: RULE | {"kind", "measurement"},
    Kind.ALERT_RULE_CHANGED: RULE | CHANGES,
    Kind.ALERT_RULE_DELETED: RULE,
    Kind.ALERT_RAISED: ALERT | {"measurement", "value", "time"},
    Kind.ALERT_ACKNOWLEDGED: ALERT | {"assignee"},
    Kind.ALERT_COMMENTED: ALERT,
    Kind.ALERT_CLEARED: ALERT | {"measurement", "value", "time"},
    Kind.ALERT_RESOLVED: ALERT | {"reason"},
    Kind.NOTIFICATION_CHANNEL_CREATED: CHANNEL | {"target"},
    Kind.NOTIFICATION_CHANNEL_CONFIRMED: CHANNEL,
    Kind.NOTIFICATION_CHANNEL_CHANGED: CHANNEL | CHANGES,
    Kind.NOTIFICATION_CHANNEL_SECRET_ROTATED: CHANNEL,
    Kind.NOTIFICATION_CHANNEL_DELETED: CHANNEL,
    Kind.NOTIFICATION_REPLAYED: CHANNEL | {"delivery_id"},
    Kind.NOTIFICATION_GIVEN_UP: CHANNEL | {"count"},
    Kind.RETENTION_CHANGED: frozenset(
        {"device_type", "measurement", "days", "rollup_days", "previous_days", "removed"}
    ),
    Kind.INSTALLATION_RESTORED: frozenset({"began", "version", "refused"}),
    Kind.EVENTS_EXPORTED: frozenset({"format", "start_time", "end_time"}),
}
# The fields that `changes` may name with what was before and after; of others that they changed.
CHANGED: dict[Kind, frozenset[str]] = {
    Kind.USER_CHANGED: frozenset(
        {"username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser"}
        | {"groups", "user_permissions"}
    ),
    Kind.ROLE_CHANGED: frozenset({"name"}),
    Kind.DEVICE_CHANGED: frozenset(
        {"name", "device_type", "description", "location", "owner"}
        | {"firmware_version", "hardware_version", "expected_interval", "grace"}
    ),
    Kind.ALERT_RULE_CHANGED: frozenset(
        {"name", "measurement", "kind", "aggregation", "window", "threshold", "low", "high"}
        | {"within_seconds", "expected_seconds", "missed", "hysteresis", "raise_after"}
        | {
            "clear_after",
            "severity",
            "late_seconds",
            "enabled",
            "muted_from",
            "muted_until",
            "muted_weekly",
            "muted_timezone",
        }
    ),
    Kind.NOTIFICATION_CHANNEL_CHANGED: frozenset(
        {"name", "address", "least_severity", "all_devices", "enabled", "digest_seconds"}
    ),
    Kind.GROUP_CHANGED: frozenset({"name", "description", "color", "devices"}),
}


def redacted(kind: Kind, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload as it may be recorded; REDACTED in the place of what may not."""
    allowed = ALLOWED.get(kind, NOTHING)
    kept = dict(payload)
    if not kept.keys() <= allowed:
        kept = _without(kind, kept, allowed)
    changes = kept.get("changes")
    if isinstance(changes, dict) and not changes.keys() <= CHANGED.get(kind, NOTHING):
        kept["changes"] = _without(kind, changes, CHANGED.get(kind, NOTHING))
    return kept


def _without(kind: Kind, values: dict[str, Any], allowed: frozenset[str]) -> dict[str, Any]:
    names = sorted(values.keys() - allowed)
    logger.warning("An event of %s had %s, which events/redaction.py does not allow", kind, names)
    return {name: value if name in allowed else REDACTED for name, value in values.items()}
