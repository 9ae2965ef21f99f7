"""Mosquitto with the plugin that asks the server for devices' keys, which is compiled here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from string import Template

from native.server import Server, receive
from native.state import Failure, write_private

FILES = Path(__file__).resolve().parent.parent / "mosquitto"
DAEMON = "/usr/sbin/mosquitto"  # in no user's PATH
NEEDED = {
    DAEMON: "mosquitto",
    "/usr/bin/mosquitto_pub": "mosquitto-clients",
    "/usr/include/mosquitto_plugin.h": "mosquitto-dev",
    "/usr/include/mosquitto.h": "libmosquitto-dev",
    "/usr/include/cjson/cJSON.h": "libcjson-dev",
}
# Who says whether a key is good, unless a test has started somebody else: `make run`.
ASKED = "http://127.0.0.1:8000/api/v1/devices/credentials"
# Of MQTT 3.1.1, a client "probe" without a password, who is refused.
STRANGER = b"\x10\x11\0\x04MQTT\x04\x02\0\x05\0\x05probe"
CONNACK = 0x20


class Mosquitto(Server):
    name = "mosquitto"

    def missing_packages(self) -> list[str]:
        packages = [package for file, package in NEEDED.items() if not Path(file).exists()]
        if not list(Path("/usr/include").glob("**/curl/curl.h")):
            packages.append("libcurl4-openssl-dev")
        return packages if shutil.which("cc") else [*packages, "gcc", "libc6-dev"]

    def prepare(self) -> None:
        super().prepare()
        plugin, password = self.data / "iotflow.so", self.data / "bridge-password"
        built = subprocess.run(
            [FILES / "build.sh", plugin], capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise Failure(f"{self.name}: its plugin does not compile:\n{built.stderr.strip()}")
        write_private(password, self.state.passwords["mosquitto"] + "\n")
        text = Template((FILES / "mosquitto.conf").read_text()).substitute(
            port=self.port,
            address=self.address,
            plugin=plugin,
            url=os.environ.get("MOSQUITTO_ASKS", ASKED),
            host="localhost",
            rate="100/2s",
            password_file=password,
            data=self.data,
        )
        # Root would become another user, who may read none of this.
        write_private(self.data / "mosquitto.conf", f"{text}\nuser root\n")

    def command(self) -> list[str]:
        return [DAEMON, "-c", str(self.data / "mosquitto.conf")]

    def ask(self) -> str:
        with self.connect() as connection:
            connection.sendall(STRANGER)
            if receive(connection, 1)[0] != CONNACK:
                raise ConnectionError("no CONNACK")
        helped = subprocess.run([DAEMON, "-h"], capture_output=True, text=True, check=False)
        return f"Mosquitto {helped.stdout.split()[2]}"
