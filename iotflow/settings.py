"""IoTFlow's one settings file, read from the environment.

Each store is chosen by its own variable and is embedded where that variable is unset
(docs/settings.md lists them all). Everything embedded lives under VAR_DIR.
"""

import socket
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

from iotflow import __version__
from iotflow.environment import Env
from iotflow.lib import ids
from iotflow.lib.rates import limits
from iotflow.secretfile import made_up_secret
from iotflow.tls import UNVERIFIED, Tls, read_tls

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env()


def bounded(name: str, default: int, least: int, most: int) -> int:
    """An integer variable; ImproperlyConfigured names it when it is no integer or out of bounds."""
    try:
        value = int(env.str(name, default=str(default)))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number.") from error
    if not least <= value <= most:
        raise ImproperlyConfigured(f"{name} must be from {least} to {most}, not {value}.")
    return value


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """A variable with a closed set of values; ImproperlyConfigured names it and them otherwise."""
    value = env.str(name, default=default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def rate(name: str, default: str) -> str:
    """Limits as `100/2s,10000/min`, or none; ImproperlyConfigured names what is neither."""
    value = env.str(name, default=default)
    try:
        limits(value)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name}: {error}. Write limits as 100/2s or 10000/min, several with commas between."
        ) from error
    return value


def replication(name: str) -> dict[str, int]:
    """Copies by datacenter, `dc1:3,dc2:3`; ImproperlyConfigured names what is no such pair."""
    found: dict[str, int] = {}
    for pair in env.list(name, default=[]):
        datacenter, _, copies = pair.partition(":")
        if not datacenter or not copies.isdecimal() or not 1 <= int(copies) <= 15:
            raise ImproperlyConfigured(
                f"{name} has {pair!r}. Write dc1:3,dc2:3: a datacenter and 1 to 15 copies in each."
            )
        found[datacenter] = int(copies)
    return found


def tls(store: str) -> Tls | None:
    """TLS by NAME_TLS_CA, NAME_TLS_CERT and NAME_TLS_KEY; None where they are not set."""
    parts = (env.str(f"{store}_TLS_{part}", default="") for part in ("CA", "CERT", "KEY"))
    return read_tls(store, *parts)


# --- Where things are ---------------------------------------------------------------------------
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)
ROOT_URLCONF = "iotflow.urls"
WSGI_APPLICATION = "iotflow.wsgi.application"

# --- Safety -------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
ALLOW_HTTP = env.bool("ALLOW_HTTP", default=False)
EMBEDDED_DATABASE = not env.str("DATABASE_URL", default="")


def secret(name: str) -> str:
    """A secret of at least 32 characters; made up only where one machine holds everything."""
    value = env.str(name, default="")
    if not value and (EMBEDDED_DATABASE or DEBUG):
        return made_up_secret(VAR_DIR / name.lower())
    if len(value) < 32:
        raise ImproperlyConfigured(
            f"{name} must be set to at least 32 random characters when DATABASE_URL is set: "
            "every process has to share it. One way: openssl rand -base64 48"
        )
    return value


SECRET_KEY = secret("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
if any(len(key) < 32 for key in SECRET_KEY_FALLBACKS):
    raise ImproperlyConfigured("Each of SECRET_KEY_FALLBACKS must have at least 32 characters.")
API_KEY_PEPPER = secret("API_KEY_PEPPER")
API_KEY_PEPPERS_OLD = env.list("API_KEY_PEPPERS_OLD", default=[])
if any(len(pepper) < 32 for pepper in API_KEY_PEPPERS_OLD):
    raise ImproperlyConfigured("Each of API_KEY_PEPPERS_OLD must have at least 32 characters.")
AUDIT_KEY = env.str("AUDIT_KEY", default="") or SECRET_KEY
AUDIT_KEYS_OLD = env.list("AUDIT_KEYS_OLD", default=[])
if any(len(key) < 32 for key in (AUDIT_KEY, *AUDIT_KEYS_OLD)):
    raise ImproperlyConfigured("AUDIT_KEY and AUDIT_KEYS_OLD must have at least 32 characters.")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])
SECURE_SSL_REDIRECT = not ALLOW_HTTP
SECURE_HSTS_SECONDS = 0 if ALLOW_HTTP else bounded("HSTS_SECONDS", 31_536_000, 0, 10**9)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_HSTS_SECONDS > 0
# A probe or a scrape inside the host or its network speaks plain HTTP.
SECURE_REDIRECT_EXEMPT = [r"^health(/live|/ready)?$", r"^metrics$"]
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not ALLOW_HTTP
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# With the prefix a browser takes the cookie from this host by HTTPS alone, not from a neighbour.
COOKIE_PREFIX = "" if ALLOW_HTTP else "__Host-"
SESSION_COOKIE_NAME = f"{COOKIE_PREFIX}sessionid"
CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}csrftoken"
SESSION_ENGINE = "accounts.sessions"
CSRF_FAILURE_VIEW = "iotflow.views.csrf_failure"
X_FRAME_OPTIONS = "DENY"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # see TrustedScheme

# --- Applications -------------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.import_export",
    "iotflow.admin.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "import_export",
    "rest_framework",
    "django_filters",
    "knox",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "events",
    "accounts",
    "devices",
    "telemetry",
    "iotflow",
]
MIDDLEWARE = [
    "iotflow.access.Access",
    "iotflow.browser.BrowserPolicy",
    "iotflow.middleware.ApiErrors",
    "iotflow.middleware.TrustedScheme",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "events.context.RequestContext",
    "iotflow.middleware.RequestGuard",
    # Whoever polls gets a 304 while nothing has changed.
    "django.middleware.http.ConditionalGetMiddleware",
    "devices.direct.ShortWay",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Stores -------------------------------------------------------------------------------------
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASE_ROUTERS = ["iotflow.routers.EventsRouter"]
TEST_SUFFIX = env.str("TEST_SUFFIX", default="")

# Deferred transactions answer "database is locked" at once when two of them turn into writers;
# immediate ones wait for each other.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}


def sqlite(name: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR_DIR / f"{name}.sqlite3",
        "OPTIONS": dict(SQLITE_OPTIONS),
        # A file, not memory: the group committer reads it from its own thread.
        "TEST": {"NAME": VAR_DIR / f"test-{name}{TEST_SUFFIX}.sqlite3"},
    }


DATABASE_TLS = None if EMBEDDED_DATABASE else tls("DATABASE")
if EMBEDDED_DATABASE:
    default_database = sqlite("iotflow")
else:
    default_database = env.db_url("DATABASE_URL")
    if default_database["ENGINE"].endswith("sqlite3"):
        default_database["OPTIONS"] = dict(SQLITE_OPTIONS)
    else:
        default_database["ENGINE"] = "iotflow.lib.postgres"
        default_database["CONN_MAX_AGE"] = 600
        default_database["CONN_HEALTH_CHECKS"] = True
        default_database.setdefault("OPTIONS", {}).update(
            connect_timeout=2,
            # A host that is gone is noticed in seconds, not by the kernel's two hours.
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=2,
            tcp_user_timeout=5000,
            options="-c statement_timeout=10000 -c lock_timeout=5000",
        )
        if DATABASE_TLS:
            default_database["OPTIONS"].update(DATABASE_TLS.for_postgresql())

DATABASE_TIMEOUT_MS = bounded("DATABASE_TIMEOUT_MS", 900, 100, 60_000)

MONGODB_URI = env.str("MONGODB_URI", default="")
EVENTS_EMBEDDED = not MONGODB_URI
MONGODB_TLS = None if EVENTS_EMBEDDED else tls("MONGODB")
if MONGODB_TLS and MONGODB_TLS.key:
    raise ImproperlyConfigured(
        "MONGODB_TLS_KEY: its driver wants the key in the file of MONGODB_TLS_CERT."
    )
if MONGODB_TLS and UNVERIFIED.search(MONGODB_URI):
    # Its driver would heed the URI; those of the other stores heed what is set here.
    raise ImproperlyConfigured("MONGODB_TLS_CA is set, but MONGODB_URI says not to verify.")
if EVENTS_EMBEDDED:
    events_database = sqlite("events")
else:
    events_database = {
        "ENGINE": "django_mongodb_backend",
        "HOST": MONGODB_URI,
        "NAME": env.str("MONGODB_DATABASE", default="iotflow"),
        # Without timeoutMS a server that hangs holds its caller for half a minute.
        "OPTIONS": {
            "timeoutMS": bounded("MONGODB_TIMEOUT_MS", 800, 50, 60_000),
            "serverSelectionTimeoutMS": 500,
            "connectTimeoutMS": 500,
            "retryWrites": True,
            "tz_aware": False,
        },
    }
    if MONGODB_TLS:
        events_database["OPTIONS"].update(MONGODB_TLS.for_mongodb())
DATABASES: dict[str, Any] = {"default": default_database, "events": events_database}

CASSANDRA_HOSTS = env.str("CASSANDRA_HOSTS", default="")
CASSANDRA_KEYSPACE = env.str("CASSANDRA_KEYSPACE", default="telemetry")
CASSANDRA_CONSISTENCY = choice(
    "CASSANDRA_CONSISTENCY",
    "LOCAL_QUORUM",
    ("ONE", "LOCAL_ONE", "QUORUM", "LOCAL_QUORUM", "EACH_QUORUM", "ALL"),
)
CASSANDRA_DATACENTER = env.str("CASSANDRA_DATACENTER", default="")
CASSANDRA_REPLICATION = replication("CASSANDRA_REPLICATION")
CASSANDRA_TLS = tls("CASSANDRA") if CASSANDRA_HOSTS else None
TELEMETRY_STORE = "cassandra" if CASSANDRA_HOSTS else "sql"
if CASSANDRA_HOSTS:
    from cassandra import ConsistencyLevel
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile
    from cassandra.policies import (
        ConstantReconnectionPolicy,
        ConstantSpeculativeExecutionPolicy,
        DCAwareRoundRobinPolicy,
        TokenAwarePolicy,
    )
    from cassandra.query import tuple_factory

    def profile(**more: Any) -> ExecutionProfile:
        """Of this datacenter's nodes the one that has the row; without a name, the first's."""
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(CASSANDRA_DATACENTER)),
            consistency_level=getattr(ConsistencyLevel, CASSANDRA_CONSISTENCY),
            **more,
        )

    replication_factor = bounded("CASSANDRA_REPLICATION_FACTOR", 1, 1, 15)
    if CASSANDRA_DATACENTER:
        CASSANDRA_REPLICATION = CASSANDRA_REPLICATION or {CASSANDRA_DATACENTER: replication_factor}
    if CASSANDRA_REPLICATION and CASSANDRA_DATACENTER not in CASSANDRA_REPLICATION:
        raise ImproperlyConfigured(
            "CASSANDRA_REPLICATION must have copies in CASSANDRA_DATACENTER, whose nodes are asked."
        )
    INSTALLED_APPS.insert(0, "django_cassandra_engine")
    DATABASES["cassandra"] = {
        "ENGINE": "django_cassandra_engine",
        "NAME": CASSANDRA_KEYSPACE,
        "USER": env.str("CASSANDRA_USERNAME", default=""),
        "PASSWORD": env.str("CASSANDRA_PASSWORD", default=""),
        "HOST": CASSANDRA_HOSTS,
        "TEST": {"NAME": CASSANDRA_KEYSPACE},
        "OPTIONS": {
            "replication": (
                {"strategy_class": "NetworkTopologyStrategy", **CASSANDRA_REPLICATION}
                if CASSANDRA_REPLICATION
                else {"strategy_class": "SimpleStrategy", "replication_factor": replication_factor}
            ),
            "connection": {
                # Connecting while apps load would keep every command from starting without it.
                "lazy_connect": True,
                "retry_connect": True,
                # The driver sends a batch in pieces, and the last would wait 40 ms for an answer to
                # those before it.
                "sockopts": [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
                # Within a datacenter packing costs more than what it saves.
                "compression": False,
                "execution_profiles": {
                    EXEC_PROFILE_DEFAULT: profile(),
                    "telemetry": profile(
                        row_factory=tuple_factory,
                        # A node that hangs costs 0.25 s of the second that a request has: then a
                        # second one is asked. One that is dead costs nothing of it.
                        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(0.25, 1),
                    ),
                },
                # A node that hangs is left out after these seconds, not after the driver's sixty.
                "idle_heartbeat_interval": 4,
                "idle_heartbeat_timeout": 2,
                "port": bounded("CASSANDRA_PORT", 9042, 1, 65535),
                "connect_timeout": 2,
                "control_connection_timeout": 2,
                # Until all nodes know a new table; a busy cluster needs more than the usual ten.
                "max_schema_agreement_wait": 30,
                # The driver's own policy backs off to ten minutes.
                "reconnection_policy": ConstantReconnectionPolicy(1.0, max_attempts=None),
            },
        },
    }
    if CASSANDRA_TLS:
        DATABASES["cassandra"]["OPTIONS"]["connection"]["ssl_context"] = CASSANDRA_TLS.context

REDIS_URL = env.str("REDIS_URL", default="")
if not REDIS_URL and env.str("REDIS_HOST", default=""):
    redis_password = quote(env.str("REDIS_PASSWORD", default=""), safe="")
    REDIS_URL = (
        f"redis://{':' + redis_password + '@' if redis_password else ''}{env.str('REDIS_HOST')}"
        f":{bounded('REDIS_PORT', 6379, 1, 65535)}/{bounded('REDIS_DB', 0, 0, 1023)}"
    )
REDIS_EMBEDDED = not REDIS_URL
REDIS_TLS = None if REDIS_EMBEDDED else tls("REDIS")
if REDIS_TLS and REDIS_URL.startswith("unix:"):
    raise ImproperlyConfigured("REDIS_TLS_CA is set, but REDIS_URL is a socket of this machine.")
REDIS_TIMEOUT_MS = bounded("REDIS_TIMEOUT_MS", 250, 10, 10_000)
if REDIS_EMBEDDED:
    from fakeredis import FakeRedisConnection

    cache_options: dict[str, Any] = {
        "CONNECTION_POOL_KWARGS": {"connection_class": FakeRedisConnection}
    }
else:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    cache_options = {
        "SOCKET_CONNECT_TIMEOUT": REDIS_TIMEOUT_MS / 1000,
        "SOCKET_TIMEOUT": REDIS_TIMEOUT_MS / 1000,
        # redis-py retries by itself, for seconds, when the server is down.
        "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0), "max_connections": 256},
    }
    if REDIS_TLS:
        cache_options["CONNECTION_POOL_KWARGS"].update(REDIS_TLS.for_redis())
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL or "redis://embedded:6379/0",
        # The default is pickle, which would run what somebody else has written into Redis.
        "OPTIONS": {**cache_options, "SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
    }
}
REDIS_PREFIX = env.str("REDIS_PREFIX", default="iotflow")

# --- Who ----------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["accounts.backends.UsernameOrEmail"]
KNOX_TOKEN_MODEL = "accounts.Token"  # noqa: S105
# knox's migrations would make its own token table beside ours.
MIGRATION_MODULES = {"knox": None}
USER_TOKEN_DAYS = bounded("USER_TOKEN_DAYS", 30, 1, 3650)
REST_KNOX = {
    "TOKEN_TTL": timedelta(days=USER_TOKEN_DAYS),
    "AUTO_REFRESH": True,
    "MIN_REFRESH_INTERVAL": 3600,
    "AUTH_HEADER_PREFIX": "Bearer",
    "TOKEN_PREFIX": "iotu_",
}
KEYS_PER_DEVICE = bounded("KEYS_PER_DEVICE", 20, 1, 1000)
KEY_GRACE_SECONDS_MAX = bounded("KEY_GRACE_SECONDS_MAX", 604_800, 0, 31_536_000)
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
ADMIN_TOTP = choice("ADMIN_TOTP", "optional", ("off", "optional", "required"))
OTP_TOTP_ISSUER = "IoTFlow"

# --- The API ------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "accounts.authentication.StaffSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["devices.throttles.Requests"],
    "DEFAULT_PARSER_CLASSES": ["iotflow.lib.json.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["iotflow.lib.json.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": None,
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "iotflow.schema.AutoSchema",
    "EXCEPTION_HANDLER": "iotflow.lib.throttles.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "IoTFlow",
    "DESCRIPTION": "Register devices, submit telemetry, read it back.",
    "VERSION": __version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "PREPROCESSING_HOOKS": ["iotflow.schema.without_aliases"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "iotflow.schema.completed",
    ],
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "PATH_CONVERTER_OVERRIDES": {
        "id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": ids.MAX}
    },
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "DeviceStatus": "devices.models.Device.Status",
        "HealthState": "iotflow.views.HEALTH_STATES",
        "StoreState": "iotflow.views.STORE_STATES",
        "ErrorCode": "iotflow.lib.errors.ERROR_CODES",
        "KeyState": "devices.models.ApiKey.State",
        "CommandStatus": "devices.models.Command.Status",
        "ConfigStatus": "events.models.ReportedConfig.Status",
        "Severity": "events.kinds.Severity",
        "AlertKind": "telemetry.alerting.machine.Kind",
        "AlertAggregation": "telemetry.alerting.models.Aggregation",
        "ChannelKind": "telemetry.notifications.models.NotificationChannel.Kind",
    },
}
MAX_BODY_BYTES = bounded("MAX_BODY_BYTES", 1_048_576, 1024, 1 << 30)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES  # RequestGuard answers 413 before this is reached
DEVICE_CONFIG_BYTES = bounded("DEVICE_CONFIG_BYTES", 65_536, 2, 1 << 20)
LIST_LIMIT = bounded("LIST_LIMIT", 100, 1, 1000)
LIST_LIMIT_MAX = bounded("LIST_LIMIT_MAX", 1000, 1, 100_000)

# --- How often ----------------------------------------------------------------------------------
RATE_DEVICE_MESSAGES = rate("RATE_DEVICE_MESSAGES", "100/2s")
RATE_DEVICE_READINGS = rate("RATE_DEVICE_READINGS", "10000/min")
RATE_DEVICE_REQUESTS = rate("RATE_DEVICE_REQUESTS", "600/min")
RATE_USER = rate("RATE_USER", "600/min")
RATE_ANONYMOUS = rate("RATE_ANONYMOUS", "300/min")
RATE_LOGIN_FAILED_ACCOUNT = rate("RATE_LOGIN_FAILED_ACCOUNT", "10/15min")
RATE_LOGIN_FAILED_ADDRESS = rate("RATE_LOGIN_FAILED_ADDRESS", "60/min")
RATE_REGISTER = rate("RATE_REGISTER", "60/h")
RATE_NOTIFICATION_TESTS = rate("RATE_NOTIFICATION_TESTS", "20/h")

# --- Telemetry ----------------------------------------------------------------------------------
HISTORY_LIMIT = bounded("HISTORY_LIMIT", 100, 1, 100_000)
HISTORY_LIMIT_MAX = bounded("HISTORY_LIMIT_MAX", 10_000, 1, 100_000)
HISTORY_SCAN_ROWS = bounded("HISTORY_SCAN_ROWS", 200_000, 1000, 100_000_000)
MEASUREMENTS_MAX = bounded("MEASUREMENTS_MAX", 100, 1, 1000)
MEASUREMENT_NAME_MAX = bounded("MEASUREMENT_NAME_MAX", 64, 1, 255)
STRING_VALUE_BYTES = bounded("STRING_VALUE_BYTES", 1024, 1, 1 << 20)
JSON_VALUE_BYTES = bounded("JSON_VALUE_BYTES", 4096, 2, 1 << 20)
CLOCK_SKEW_SECONDS = bounded("CLOCK_SKEW_SECONDS", 600, 0, 366 * 86_400)
TELEMETRY_RETENTION_DAYS = bounded("TELEMETRY_RETENTION_DAYS", 0, 0, 3650)
ROLLUP_RETENTION_DAYS = bounded("ROLLUP_RETENTION_DAYS", 0, 0, 3650)
USER_FEED_DAYS = bounded("USER_FEED_DAYS", 7, 1, 365)
IDEMPOTENCY_HOURS = bounded("IDEMPOTENCY_HOURS", 24, 1, 24 * 365)
INGEST_WAIT_MS = bounded("INGEST_WAIT_MS", 1500, 50, 10_000)
INGEST_THREADS = bounded("INGEST_THREADS", 2, 1, 8)
ALERT_RULES_MAX = bounded("ALERT_RULES_MAX", 1000, 1, 100_000)
COMMANDS_OPEN_MAX = bounded("COMMANDS_OPEN_MAX", 100, 1, 10_000)
INGEST_QUEUE = bounded("INGEST_QUEUE", 2000, 1, 1_000_000)
INGEST_GROUP = bounded("INGEST_GROUP", 200, 1, 10_000)
INGEST_GROUP_VALUES = bounded("INGEST_GROUP_VALUES", 2000, 1, 100_000)
INGEST_GROUP_BYTES = bounded("INGEST_GROUP_BYTES", 40_000, 1000, 10_000_000)
BATCH_READINGS = bounded("BATCH_READINGS", 1000, 1, 10_000)
BATCH_VALUES = bounded("BATCH_VALUES", 20_000, 1, 1_000_000)
BATCH_WAIT_MS = bounded("BATCH_WAIT_MS", 8000, 100, 10_000)
AGGREGATE_SCAN_VALUES = bounded("AGGREGATE_SCAN_VALUES", 500_000, 1000, 100_000_000)
AGGREGATE_POINTS_MAX = bounded("AGGREGATE_POINTS_MAX", 5000, 10, 100_000)
AGGREGATE_WINDOWS_MAX = bounded("AGGREGATE_WINDOWS_MAX", 10_000, 1, 1_000_000)
IMPORT_GROUP = bounded("IMPORT_GROUP", 500, 1, 1000)
IMPORT_WRITERS = bounded("IMPORT_WRITERS", 4, 1, 64)

# --- MQTT ---------------------------------------------------------------------------------------
MQTT_URL = env.str("MQTT_URL", default="")
MQTT_TLS = tls("MQTT") if MQTT_URL else None
MQTT_WINDOW = bounded("MQTT_WINDOW", 200, 1, 1000)

# --- Caches and presence ------------------------------------------------------------------------
KEY_CACHE_SECONDS = bounded("KEY_CACHE_SECONDS", 3600, 1, 86_400)
LATEST_CACHE_SECONDS = bounded("LATEST_CACHE_SECONDS", 600, 1, 86_400)
ONLINE_SECONDS = bounded("ONLINE_SECONDS", 300, 1, 86_400)

# --- Live streams -------------------------------------------------------------------------------
STREAMS_MAX = bounded("STREAMS_MAX", 1000, 1, 100_000)
STREAMS_IN_THREADS = bounded("STREAMS_IN_THREADS", 8, 0, 1000)
STREAMS_EACH = bounded("STREAMS_EACH", 20, 1, 100_000)
STREAM_HEARTBEAT_SECONDS = bounded("STREAM_HEARTBEAT_SECONDS", 15, 1, 300)
STREAM_CHECK_SECONDS = bounded("STREAM_CHECK_SECONDS", 3, 1, 60)
STREAM_SEND_SECONDS = bounded("STREAM_SEND_SECONDS", 20, 1, 300)
STREAM_KEPT = bounded("STREAM_KEPT", 1000, 10, 100_000)
STREAM_KEPT_SECONDS = bounded("STREAM_KEPT_SECONDS", 300, 10, 86_400)

# --- Events and background work -----------------------------------------------------------------
PRESENCE_RETENTION_DAYS = bounded("PRESENCE_RETENTION_DAYS", 400, 1, 36_500)
EVENT_RETENTION_DAYS = bounded("EVENT_RETENTION_DAYS", 90, 1, 36_500)
WORKER_THREAD = env.bool("WORKER_THREAD", default=False)

# --- Notifications ------------------------------------------------------------------------------
email_url = env.str("EMAIL_URL", default="consolemail://" if EMBEDDED_DATABASE else "")
SENDS_EMAIL = bool(email_url)
if SENDS_EMAIL:
    vars().update(env.email_url_config(email_url))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="iotflow@localhost")
WEBHOOK_HTTP = env.bool("WEBHOOK_HTTP", default=False)
try:
    WEBHOOK_ALLOWED_NETWORKS = [
        ip_network(one) for one in env.list("WEBHOOK_ALLOWED_NETWORKS", default=[])
    ]
    WEBHOOK_PORTS = {
        int(port) for port in env.list("WEBHOOK_PORTS", default=["80", "443", "8080", "8443"])
    }
except ValueError as error:
    raise ImproperlyConfigured(f"WEBHOOK_ALLOWED_NETWORKS or WEBHOOK_PORTS: {error}") from error
NOTIFICATION_CHANNELS_MAX = bounded("NOTIFICATION_CHANNELS_MAX", 20, 1, 1000)
NOTIFICATION_THREADS = bounded("NOTIFICATION_THREADS", 8, 1, 64)
NOTIFICATION_DIGEST_AFTER = bounded("NOTIFICATION_DIGEST_AFTER", 5, 1, 1000)
NOTIFICATION_GIVE_UP_HOURS = bounded("NOTIFICATION_GIVE_UP_HOURS", 72, 1, 720)
NOTIFICATION_LOG_DAYS = bounded("NOTIFICATION_LOG_DAYS", 30, 1, 3650)

# --- Metrics and traces -------------------------------------------------------------------------
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    raise ImproperlyConfigured("METRICS_TOKEN must have at least 16 characters, or be unset.")
METRICS_LOOPBACK = env.bool("METRICS_LOOPBACK", default=False)
OTEL_EXPORTER_OTLP_ENDPOINT = env.str("OTEL_EXPORTER_OTLP_ENDPOINT", default="")

# --- Pages, times, logs -------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_TZ = True
USE_I18N = True
IMPORT_EXPORT_USE_TRANSACTIONS = True

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # static files are served from the packages, with nothing to collect
UNFOLD = {
    "SITE_TITLE": "IoTFlow",
    "SITE_HEADER": "IoTFlow",
    "SITE_SUBHEADER": f"Version {__version__}",
    "SITE_SYMBOL": "sensors",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("iotflow/icon.svg")}
    ],
    "LOGIN": {"form": "accounts.forms.LoginForm"},
    "COLORS": {
        "primary": {
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#60a5fa",
            "500": "#4f93fb",
            "600": "#1d5fd0",
            "700": "#1a4fae",
            "800": "#1e408a",
            "900": "#1e3a6e",
            "950": "#172545",
        }
    },
    "STYLES": [lambda request: static("iotflow/admin/admin.css")],
    "SCRIPTS": [
        lambda request: static("iotflow/admin/keyboard.js"),
        lambda request: static("iotflow/admin/forms.js"),
    ],
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "navigation": "iotflow.admin.navigation.sidebar",
    },
    "TABS": "iotflow.admin.navigation.tabs",
    "ACCOUNT": {"navigation": "iotflow.admin.navigation.account"},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
}
LOG_LEVEL = choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOG_FORMAT = choice("LOG_FORMAT", "line", ("line", "json"))
ACCESS_LOG = choice("ACCESS_LOG", "off", ("off", "errors", "all"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "iotflow.logs.Line"}, "json": {"()": "iotflow.logs.Json"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # The driver logs a line for every attempt at a node that is away; our breaker logs one.
        "cassandra": {"level": "ERROR"},
        "cassandra.cluster": {"level": "CRITICAL"},
        "cassandra.pool": {"level": "CRITICAL"},
        "django.request": {"level": "ERROR"},
        # What a client sent wrong is answered 400; a traceback of each would be its means to fill
        # the disk.
        "django.security": {"level": "CRITICAL"},
        "django.security.csrf": {"level": "WARNING"},
        # Below, it writes all that a page is made from, a key that is shown once among it.
        "django.template": {"level": "INFO"},
        "httpx": {"level": "WARNING"},
        "pymongo": {"level": "ERROR"},
    },
}
