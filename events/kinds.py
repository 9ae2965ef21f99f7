"""The closed list of what can happen. An event of no kind in this list cannot be recorded."""

from django.db import models


class Severity(models.TextChoices):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Kind(models.TextChoices):
    """`subject.what happened`, in the past tense."""

    USER_REGISTERED = "user.registered"
    USER_LOGIN = "user.login"
    USER_LOGIN_FAILED = "user.login_failed"
    USER_LOGIN_THROTTLED = "user.login_throttled"
    USER_TOKEN_REFUSED = "user.token_refused"  # noqa: S105
    USER_LOGOUT = "user.logout"
    USER_TOKENS_ENDED = "user.tokens_ended"
    USER_CHANGED = "user.changed"
    USER_DEACTIVATED = "user.deactivated"
    USER_ACTIVATED = "user.activated"
    USER_DELETED = "user.deleted"
    USER_TOTP_ENROLLED = "user.totp_enrolled"
    USER_TOTP_FAILED = "user.totp_failed"
    USER_TOTP_REMOVED = "user.totp_removed"
    USER_RECOVERY_CODE_USED = "user.recovery_code_used"
    ROLE_CHANGED = "role.changed"
    DEVICE_REGISTERED = "device.registered"
    DEVICE_CHANGED = "device.changed"
    DEVICE_STATUS_CHANGED = "device.status_changed"
    DEVICE_CAME_ONLINE = "device.came_online"
    DEVICE_WENT_OFFLINE = "device.went_offline"
    DEVICE_KEY_ROTATED = "device.key_rotated"
    DEVICE_KEY_CREATED = "device.key_created"
    DEVICE_KEY_REVOKED = "device.key_revoked"
    DEVICE_KEY_REFUSED = "device.key_refused"
    DEVICE_CONFIG_READ = "device.config_read"
    DEVICE_CONFIG_CHANGED = "device.config_changed"
    DEVICE_CONFIG_ROLLED_BACK = "device.config_rolled_back"
    DEVICE_CONFIG_REPORTED = "device.config_reported"
    DEVICE_DELETED = "device.deleted"
    DEVICE_ERASED = "device.erased"
    GROUP_CREATED = "group.created"
    GROUP_CHANGED = "group.changed"
    GROUP_DELETED = "group.deleted"
    GROUP_DEVICE_ADDED = "group.device_added"
    GROUP_DEVICE_REMOVED = "group.device_removed"
    TELEMETRY_SUBMITTED = "telemetry.submitted"
    TELEMETRY_IMPORTED = "telemetry.imported"
    TELEMETRY_DELETED = "telemetry.deleted"
    TELEMETRY_PURGED = "telemetry.purged"
    ALERT_RULE_CREATED = "alert_rule.created"
    ALERT_RULE_CHANGED = "alert_rule.changed"
    ALERT_RULE_DELETED = "alert_rule.deleted"
    ALERT_RAISED = "alert.raised"
    ALERT_ACKNOWLEDGED = "alert.acknowledged"
    ALERT_COMMENTED = "alert.commented"
    ALERT_CLEARED = "alert.cleared"
    ALERT_RESOLVED = "alert.resolved"
    NOTIFICATION_CHANNEL_CREATED = "notification_channel.created"
    NOTIFICATION_CHANNEL_CONFIRMED = "notification_channel.confirmed"
    NOTIFICATION_CHANNEL_CHANGED = "notification_channel.changed"
    NOTIFICATION_CHANNEL_SECRET_ROTATED = "notification_channel.secret_rotated"  # noqa: S105  # pragma: allowlist secret
    NOTIFICATION_CHANNEL_DELETED = "notification_channel.deleted"
    NOTIFICATION_REPLAYED = "notification.replayed"
    NOTIFICATION_GIVEN_UP = "notification.given_up"
    RETENTION_CHANGED = "retention.changed"
    INSTALLATION_RESTORED = "installation.restored"
    EVENTS_EXPORTED = "events.exported"


# Those that come by the thousand a second, past the outbox, and are sealed by the minute.
MASS = frozenset({Kind.TELEMETRY_SUBMITTED})
