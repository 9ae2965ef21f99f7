import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from iotflow.lib.child import answers, free_port, server
from tests.environment import CHOICES, ROOT

ADMIN, PASSWORD = "admin", "swordfish17"


@pytest.fixture(scope="session")
def superuser() -> dict[str, str]:
    """The log-in of the superuser of that server, in the variables that docs/api.md names."""
    return {"ADMIN": ADMIN, "PASSWORD": PASSWORD}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on embedded stores of its own, started as `make demo` starts one."""
    var_dir = tmp_path_factory.mktemp("server")
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    environment |= {"VAR_DIR": str(var_dir), "WORKER_THREAD": "1"}
    for command in (
        ["setup_stores"],
        ["createsuperuser", "--noinput", "--username", ADMIN, "--email", "admin@example.com"],
    ):
        subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env={**environment, "DJANGO_SUPERUSER_PASSWORD": PASSWORD},
            check=True,
            timeout=60,
        )
    port = free_port()
    child = server(port, var_dir / "server.log", environment)
    try:
        address = f"http://127.0.0.1:{port}"
        assert answers(address, child, 60), child.obituary()
        yield address
    finally:
        child.stop()
