"""Every store by TLS, against servers that take nothing else and want to see a certificate.

MongoDB is the stand-in of the other tests, which ends TLS itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.certificates import Authority
from tests.encrypted import Certified, encrypted_servers
from tests.environment import CHOICES, ROOT
from tests.server import running

pytestmark = [pytest.mark.real, pytest.mark.timeout(420)]
STORES = ("DATABASE", "CASSANDRA", "REDIS", "MONGODB")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    with encrypted_servers(tmp_path_factory.mktemp("encrypted")) as state:
        yield state


@pytest.fixture
def environment(stores: Certified, tmp_path: Path) -> dict[str, str]:
    """Of a process that does all of it right."""
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    own = {
        **{f"{store}_TLS_CA": str(stores.authority.ca) for store in STORES},
        **{f"{store}_TLS_CERT": str(stores.client.cert) for store in STORES},
        **{f"{store}_TLS_KEY": str(stores.client.key) for store in STORES},
        "MONGODB_TLS_CERT": str(stores.client.both),
        "MONGODB_TLS_KEY": "",
    }
    return {**kept, **stores.environment(), **own, "VAR_DIR": str(tmp_path / "var")}


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


def refusals(environment: dict[str, str]) -> dict[str, str]:
    """What doctor says of each store that is no store for it, by the variable that names it."""
    done = manage(environment, "doctor", "--json")
    assert done.returncode == 1, done.stderr
    said = [row["what"] for row in json.loads(done.stdout)["findings"] if row["check"] == "stores"]
    found = {}
    for what in said:
        name, _, reason = what.partition(" does not answer, or not yet: ")
        found[name.rpartition("(")[2].rstrip(")")] = reason
    return found


def test_the_application_does_all_of_its_work_by_tls(environment, tmp_path):
    done = manage(environment, "setup_stores")
    assert done.returncode == 0, done.stderr
    with running(tmp_path / "server.log", {**environment, "WORKER_THREAD": "1"}) as url:
        api = f"{url}/api/v1"
        who = {"username": "alice", "email": "alice@example.org", "password": "swordfish 17"}
        with httpx.Client(timeout=30, trust_env=False) as client:
            assert client.post(f"{api}/auth/register", json=who).status_code == 201
            token = client.post(f"{api}/auth/login", json=who).json()["token"]
            own = {"Authorization": f"Bearer {token}"}
            made = client.post(f"{api}/devices/register", json={"name": "a"}, headers=own).json()
            key, number = made["device"]["api_key"], made["device"]["id"]
            device = {"X-API-Key": key}
            answer = client.post(f"{api}/telemetry", json={"data": {"t": 21.5}}, headers=device)
            assert answer.status_code == 201
            latest = client.get(f"{api}/telemetry/{number}/latest", headers=device).json()
            assert latest["latest_data"] == {"t": 21.5}
            health = client.get(f"{url}/health?detailed=true").json()
    assert health["status"] == "healthy"
    assert {store["status"] for store in health["stores"].values()} == {"up"}


def test_a_certificate_of_another_authority_is_refused(environment, stores, tmp_path):
    """Also where the machine trusts the one that signed, or a URL says not to verify."""
    other = Authority(tmp_path / "other")
    environment["DATABASE_URL"] += "?sslmode=require"
    redis_url = environment["REDIS_URL"].replace("redis://", "rediss://")
    environment["REDIS_URL"] = f"{redis_url}?ssl_cert_reqs=none"
    environment |= {f"{store}_TLS_CA": str(other.ca) for store in STORES}
    reasons = refusals({**environment, "SSL_CERT_FILE": str(stores.authority.ca)})
    assert len(reasons) == 4
    for variable, reason in reasons.items():
        assert "certificate verify failed" in reason, variable


def test_a_certificate_for_another_host_is_refused(environment, stores):
    """By another name, or another address: Cassandra's driver looks names up before it asks."""
    for variable in ("DATABASE_URL", "REDIS_URL", "MONGODB_URI"):
        environment[variable] = environment[variable].replace("127.0.0.1", "localhost")
    environment["CASSANDRA_HOSTS"] = "127.0.0.2"
    reasons = refusals(environment)
    assert len(reasons) == 4
    for variable, reason in reasons.items():
        assert "match" in reason.lower(), variable


@pytest.mark.parametrize(
    "parts", [("CERT", "KEY"), ("CA", "CERT", "KEY")], ids=["without a certificate", "in clear"]
)
def test_these_servers_take_nobody_else(environment, parts):
    """So what is stored above came by TLS, and the client's certificate was shown."""
    environment |= {f"{store}_TLS_{part}": "" for store in STORES for part in parts}
    reasons = refusals(environment)
    assert len(reasons) == 4
    assert all(reasons.values())
