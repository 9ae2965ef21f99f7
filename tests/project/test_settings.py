"""What the environment may say, and what `manage.py` answers when it says nonsense."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.test import Client

from tests.certificates import Authority
from tests.environment import CHOICES, ROOT

SECRETS = {"SECRET_KEY": "s" * 50, "API_KEY_PEPPER": "p" * 50}


def manage(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in (*CHOICES, *SECRETS)}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**kept, "VAR_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HISTORY_LIMIT": "many"}, "HISTORY_LIMIT must be a whole number."),
        ({"HISTORY_LIMIT": "0"}, "HISTORY_LIMIT must be from 1 to 100000, not 0."),
        ({"CASSANDRA_HOSTS": "a", "CASSANDRA_CONSISTENCY": "SOME"}, "must be one of ONE,"),
        ({"CASSANDRA_REPLICATION": "dc1:3,dc2"}, "CASSANDRA_REPLICATION has 'dc2'. Write dc1:3,"),
        ({"CASSANDRA_REPLICATION": "dc1:16"}, "a datacenter and 1 to 15 copies in each."),
        (
            {
                "CASSANDRA_HOSTS": "a",
                "CASSANDRA_DATACENTER": "dc1",
                "CASSANDRA_REPLICATION": "dc2:3",
            },
            "CASSANDRA_REPLICATION must have copies in CASSANDRA_DATACENTER",
        ),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL must be one of"),
        ({"DATABASE_URL": "postgres://u:p@h/d"}, "SECRET_KEY must be set to at least 32"),
        ({"API_KEY_PEPPERS_OLD": "o" * 32 + ",short"}, "Each of API_KEY_PEPPERS_OLD must have"),
        ({"KEYS_PER_DEVICE": "0"}, "KEYS_PER_DEVICE must be from 1 to 1000, not 0."),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must be set to at least 32"),
        ({"DATABASE_URL": "postgres://u:p@h/d", "SECRET_KEY": "s" * 32}, "API_KEY_PEPPER must be"),
        ({"SECRET_KEY_FILE": "/nowhere/key"}, "SECRET_KEY_FILE cannot be read: [Errno 2]"),
        ({"SECRET_KEY_FILE": "manage.py", "SECRET_KEY": "s"}, "SECRET_KEY_FILE are both set"),
        ({"REDIS_HOST": "h", "REDIS_TLS_CA": "/nowhere/ca"}, "REDIS_TLS_CA: no certificates in"),
        ({"REDIS_HOST": "h", "REDIS_TLS_CA": "manage.py"}, "REDIS_TLS_CA: no certificates in"),
        ({"CASSANDRA_HOSTS": "h", "CASSANDRA_TLS_CERT": "c"}, "CASSANDRA_TLS_CA must be set where"),
        (
            {"REDIS_HOST": "h", "REDIS_TLS_CA": "manage.py", "REDIS_TLS_KEY": "manage.py"},
            "REDIS_TLS_KEY is set, but REDIS_TLS_CERT is not.",
        ),
    ],
)
def test_nonsense_is_refused_at_start_with_the_variables_name(tmp_path, variables, message):
    result = manage(tmp_path, "check", **variables)
    assert result.returncode != 0
    assert message in result.stderr


def test_secrets_are_made_up_once_and_readable_by_nobody_else(tmp_path):
    found = []
    for _ in range(2):
        assert manage(tmp_path, "check").returncode == 0
        found.append([(tmp_path / name).read_text() for name in ("secret_key", "api_key_pepper")])
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]
    assert min(map(len, found[0])) == 64
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600


def test_any_variable_may_be_in_a_file_and_stands_there_as_it_is(tmp_path):
    wanted = {
        "SECRET_KEY": "$ecret-" + "s" * 40,
        "API_KEY_PEPPER": "pepper\\$ " + "p" * 40,
        "API_KEY_PEPPERS_OLD": "o" * 32 + "," + "q" * 32,
        "DATABASE_URL": "postgres://u:p@h/d",
        "CASSANDRA_PASSWORD": "c",
        "REDIS_PASSWORD": "r",
        "MONGODB_URI": "mongodb://u:m@h/d",
        "HISTORY_LIMIT": "7",
    }
    files = {}
    for name, value in wanted.items():
        (tmp_path / name).write_text(f"{value}\n")
        files[f"{name}_FILE"] = str(tmp_path / name)
    code = """
import json
from django.conf import settings as s
db = s.DATABASES
print(json.dumps([s.SECRET_KEY, s.API_KEY_PEPPER, ",".join(s.API_KEY_PEPPERS_OLD),
    db["default"]["HOST"], db["cassandra"]["PASSWORD"], s.REDIS_URL, s.MONGODB_URI,
    s.HISTORY_LIMIT]))
"""
    stores = {"CASSANDRA_HOSTS": "h", "REDIS_HOST": "h"}
    result = manage(tmp_path, "shell", "-v", "0", "-c", code, **files, **stores)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found[:3] == [wanted[name] for name in list(wanted)[:3]]
    assert found[3:] == ["h", "c", "redis://:r@h:6379/0", wanted["MONGODB_URI"], 7]


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path):
    authority = Authority(tmp_path / "authority")
    one, other = authority.issue("one"), authority.issue("other")
    files = {"REDIS_TLS_CA": authority.ca, "REDIS_TLS_CERT": one.cert, "REDIS_TLS_KEY": other.key}
    result = manage(
        tmp_path, "check", REDIS_HOST="h", **{name: str(path) for name, path in files.items()}
    )
    assert result.returncode != 0
    assert "REDIS_TLS_CERT and REDIS_TLS_KEY: no certificate with its key" in result.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MONGODB_URI": "mongodb://h/d?tlsInsecure=true"}, "MONGODB_URI says not to verify."),
        ({"MONGODB_URI": "mongodb://h/d", "MONGODB_TLS_KEY": "one.key"}, "in the file of MONGODB_"),
        ({"REDIS_URL": "unix:///run/redis.sock"}, "REDIS_URL is a socket of this machine."),
    ],
)
def test_what_a_store_cannot_do_by_tls_is_refused(tmp_path, variables, message):
    authority = Authority(tmp_path / "authority")
    one = authority.issue("one")
    variables = {name: value.replace("one.key", str(one.key)) for name, value in variables.items()}
    store = next(iter(variables)).partition("_")[0]
    files = {f"{store}_TLS_CA": str(authority.ca), f"{store}_TLS_CERT": str(one.both)}
    result = manage(tmp_path, "check", **variables, **files)
    assert result.returncode != 0
    assert message in result.stderr


FAR = {
    "DATABASE_URL": "postgres://u:p@db.example.org/d",
    "CASSANDRA_HOSTS": "127.0.0.1,10.0.0.2",
    "REDIS_URL": "redis://:p@cache.example.org/0",
    "MONGODB_URI": "mongodb://u:p@127.0.0.1:27017,events.example.org:27017/d",
    **SECRETS,
}


def in_clear(tmp_path: Path, **variables: str) -> set[str]:
    """The variables whose stores the deploy check calls unencrypted."""
    result = manage(tmp_path, "check", "--deploy", "--tag", "security", **{**FAR, **variables})
    assert result.returncode == 0, result.stderr
    return set(re.findall(r"iotflow\.W005\) (\w+):", result.stderr))


def test_a_store_across_the_network_in_clear_is_a_warning_before_deployment(tmp_path):
    assert in_clear(tmp_path) == {"DATABASE_URL", "CASSANDRA_HOSTS", "REDIS_URL", "MONGODB_URI"}
    ca = str(Authority(tmp_path / "authority").ca)
    stores = ("DATABASE", "CASSANDRA", "REDIS", "MONGODB")
    assert in_clear(tmp_path, **{f"{store}_TLS_CA": ca for store in stores}) == set()


def test_tls_that_believes_whoever_answers_is_a_warning_too(tmp_path):
    asked = {
        "DATABASE_URL": f"{FAR['DATABASE_URL']}?sslmode=require",
        "CASSANDRA_HOSTS": "localhost",
        "REDIS_URL": "rediss://cache.example.org/0?ssl_cert_reqs=none",
        "MONGODB_URI": "mongodb://events.example.org/d?tls=true&tlsAllowInvalidHostnames=true",
    }
    assert in_clear(tmp_path, **asked) == {"DATABASE_URL", "REDIS_URL", "MONGODB_URI"}
    verified = {
        "DATABASE_URL": f"{FAR['DATABASE_URL']}?sslmode=verify-full",
        "CASSANDRA_HOSTS": "::1",
        "REDIS_URL": "rediss://cache.example.org/0",
        "MONGODB_URI": "mongodb+srv://events.example.org/d",
    }
    assert in_clear(tmp_path, **verified) == set()


@pytest.mark.parametrize("command", [["check"], ["help"], ["shell", "-c", "print(1)"]])
def test_commands_start_with_every_server_down(tmp_path, command):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])  # bound, but nobody listens
        started = time.monotonic()
        result = manage(
            tmp_path,
            *command,
            DATABASE_URL=f"postgres://u:p@127.0.0.1:{port}/d",
            CASSANDRA_HOSTS="127.0.0.1",
            CASSANDRA_PORT=port,
            REDIS_URL=f"redis://127.0.0.1:{port}/0",
            MONGODB_URI=f"mongodb://127.0.0.1:{port}/d",
            **SECRETS,
        )
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 20


def test_a_store_that_is_away_stops_setup_with_its_name(tmp_path):
    result = manage(tmp_path, "setup_stores", MONGODB_URI="mongodb://127.0.0.1:1/d")
    assert result.returncode == 1
    assert "Events cannot be set up now" in result.stderr


def test_setup_can_be_run_again_and_tried_dry(tmp_path):
    dry = manage(tmp_path, "setup_stores", "--dry-run")
    assert "Nothing was changed." in dry.stdout
    assert not (tmp_path / "iotflow.sqlite3").exists()
    for _ in range(2):
        result = manage(tmp_path, "setup_stores")
        assert result.returncode == 0, result.stderr
        assert "All stores are set up." in result.stdout


@pytest.mark.parametrize(
    ("name", "value", "check_id"),
    [
        ("VAR_DIR", Path("/nowhere"), "iotflow.E001"),
        ("TRUSTED_PROXIES", ["10.0.0.0/8", "proxy"], "iotflow.E002"),
        ("REDIS_URL", "http://localhost", "iotflow.E003"),
        ("MONGODB_URI", "localhost:27017", "iotflow.E003"),
        ("MQTT_URL", "http://bridge:word@localhost", "iotflow.E003"),
        ("MQTT_URL", "mqtt://localhost", "iotflow.E005"),
        ("HISTORY_LIMIT", 10**6, "iotflow.E004"),
        ("ALLOWED_HOSTS", ["iot.example.org"], "iotflow.W003"),
    ],
)
def test_settings_that_are_wrong_together_are_found_by_a_check(settings, name, value, check_id):
    assert check_id not in {message.id for message in run_checks()} - {"iotflow.W003"}
    setattr(settings, name, value)
    [message] = [message for message in run_checks() if message.id == check_id]
    assert message.hint


def test_an_embedded_store_beside_real_ones_is_a_warning(settings):
    settings.EMBEDDED_DATABASE, settings.REDIS_EMBEDDED = True, False
    assert "iotflow.W002" in {message.id for message in run_checks()}


def test_several_processes_on_embedded_stores_are_a_warning(settings, monkeypatch):
    settings.REDIS_EMBEDDED = True
    monkeypatch.setenv("GRANIAN_WORKERS", "4")
    assert "iotflow.W004" in {message.id for message in run_checks()}


def test_only_a_trusted_proxy_says_that_the_client_spoke_https(settings):
    settings.SECURE_SSL_REDIRECT = True
    said = {"x-forwarded-proto": "https"}
    assert Client().get("/status", headers=said).status_code == 301
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    assert Client().get("/status", headers=said).status_code == 200


def test_a_proxy_is_believed_only_where_it_is_trusted(sensor, settings):
    from events.models import EventLog

    def address(hops: str) -> str:
        sensor.api.post("/telemetry", {"data": {"a": hops}}, x_forwarded_for=hops)
        return EventLog.objects.filter(kind="telemetry.submitted").latest("time").address

    assert address("203.0.113.9") == "127.0.0.1"
    settings.TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]
    assert address("203.0.113.9") == "203.0.113.9"
    assert address("198.51.100.1, 203.0.113.9, 10.1.2.3") == "203.0.113.9"
    assert address("nonsense") == "127.0.0.1"
