"""Redis as a cache: nothing of it is ever on the disk."""

from __future__ import annotations

import re
import shutil

from native.server import Server
from native.state import write_private

# Only keys with a time to live may be evicted: counters and sets without one must stay.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{data}"
save ""
appendonly no
maxmemory 256mb
maxmemory-policy volatile-lru
"""


class Redis(Server):
    name = "redis"

    def missing_packages(self) -> list[str]:
        return [] if shutil.which("redis-server") else ["redis-server"]

    def prepare(self) -> None:
        super().prepare()
        text = CONFIGURATION.format(
            port=self.port, password=self.state.passwords["redis"], data=self.data
        )
        write_private(self.data / "redis.conf", text)

    def command(self) -> list[str]:
        return ["redis-server", str(self.data / "redis.conf")]

    def ask(self) -> str:
        password = self.state.passwords["redis"]
        with self.connect() as connection:
            connection.sendall(f"AUTH {password}\r\nINFO server\r\nQUIT\r\n".encode())
            answer = connection.makefile("rb").read().decode()
        found = re.search(r"redis_version:(\S+)", answer)
        if found is None:
            raise ConnectionError(answer)
        return f"Redis {found[1]}"
