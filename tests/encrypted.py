"""The four servers with TLS on, for one test: nobody gets in without a certificate of theirs.

They have the address 127.0.0.1 in their certificate and no other name.
"""

import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from native import cache
from native.cassandra import Cassandra
from native.mongo import Mongo
from native.postgres import Postgres
from native.redis import Redis
from native.server import Server
from native.state import NAMES, State

from tests.certificates import STORE_PASSWORD, Authority


class Certified(State):
    """A set of servers under one authority, which has signed for the servers and for a client."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.authority = Authority(home / "authority")
        self.server = self.authority.issue("server", "127.0.0.1", "stores.example.org")
        self.client = self.authority.issue("client")

    def environment(self) -> dict[str, str]:
        """The variables of the application for these servers, without those of TLS."""
        return {key: value for name in NAMES for key, value in self.settings(name).items()}


class Encrypted(Server):
    state: Certified

    def connect(self) -> socket.socket:
        context = self.state.authority.context(self.state.client)
        return context.wrap_socket(super().connect(), server_hostname=self.address)


class TlsPostgres(Postgres):
    state: Certified

    def prepare(self) -> None:
        super().prepare()
        for path in (self.state.authority.ca, self.state.server.cert, self.state.server.key):
            copy = self.data / path.name
            shutil.copy(path, copy)
            if self.user:
                shutil.chown(copy, self.user, self.identity["group"])
        rule = "hostssl all iotflow 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        (self.data / "pg_hba.conf").write_text(rule)

    def command(self) -> list[str]:
        files = {
            "ssl": "on",
            "ssl_ca_file": self.state.authority.ca.name,
            "ssl_cert_file": self.state.server.cert.name,
            "ssl_key_file": self.state.server.key.name,
        }
        pairs = [part for key, value in files.items() for part in ("-c", f"{key}={value}")]
        return [*super().command(), *pairs]

    def ask(self) -> str:
        try:
            connection = psycopg2.connect(
                host=self.address,
                port=self.port,
                user="iotflow",
                password=self.state.passwords["postgres"],
                sslmode="verify-full",
                sslrootcert=str(self.state.authority.ca),
                sslcert=str(self.state.client.cert),
                sslkey=str(self.state.client.key),
                connect_timeout=5,
            )
        except psycopg2.OperationalError as error:
            raise ConnectionError(str(error)) from error
        connection.close()
        return "PostgreSQL with TLS"


class TlsRedis(Encrypted, Redis):
    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "yes"),
            *("--tls-ca-cert-file", str(self.state.authority.ca)),
            *("--tls-cert-file", str(self.state.server.cert)),
            *("--tls-key-file", str(self.state.server.key)),
        ]


class TlsCassandra(Encrypted, Cassandra):
    @property
    def configuration(self) -> dict[str, object]:
        return {**super().configuration, "memtable": "64MiB"}

    @property
    def options(self) -> list[str]:
        return ["-Xms512M", "-Xmx512M", *super().options[2:]]

    def prepare(self) -> None:
        """It listens on every address, so that it can be asked by one that it does not certify."""
        super().prepare()
        authority, path = self.state.authority, self.data / "cassandra.yaml"
        text = path.read_text().replace("rpc_address: 127.0.0.1", "rpc_address: 0.0.0.0")
        path.write_text(f"""{text}
broadcast_rpc_address: 127.0.0.1
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: true
  keystore: "{authority.keystore("server")}"
  keystore_password: {STORE_PASSWORD}
  truststore: "{authority.truststore()}"
  truststore_password: {STORE_PASSWORD}
  store_type: PKCS12
""")


class TlsMongo(Encrypted, Mongo):
    def open_command(self) -> list[str]:
        return [
            *super().open_command(),
            *("--tls-cert-file", str(self.state.server.cert)),
            *("--tls-key-file", str(self.state.server.key)),
            *("--tls-ca-file", str(self.state.authority.ca), "--tls-require-client-cert"),
        ]


@contextmanager
def encrypted_servers(home: Path) -> Iterator[Certified]:
    """All four, up inside and gone after."""
    state = Certified(home)
    state.make()
    servers: list[Server] = [
        made(state) for made in (TlsPostgres, TlsCassandra, TlsRedis, TlsMongo)
    ]
    packages = [package for server in servers for package in server.missing_packages()]
    cache.install(packages, home / "logs" / "apt.log")
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(bring_up, servers))
        yield state
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(Path(f"/var/tmp/iotflow-{state.key}"), ignore_errors=True)


def bring_up(server: Server) -> None:
    server.fetch()
    server.start()
