"""TLS to a store, as `NAME_TLS_CA`, `NAME_TLS_CERT` and `NAME_TLS_KEY` say, for each driver.

The server has to show a certificate that an authority of the CA file signed, for the host that was
asked for. Nothing turns that off; without a CA file there is no TLS by these variables.
"""

import re
import ssl
from dataclasses import dataclass
from socket import socket
from typing import Any

from django.core.exceptions import ImproperlyConfigured

# What the URL of a store may say, and then whoever answers is believed to be that store.
UNVERIFIED = re.compile(
    r"\b(ssl_cert_reqs=(none|optional)|(ssl_check_hostname|tls|ssl)=(false|0|no)"
    r"|(tlsinsecure|tlsallowinvalid\w+)=true)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files. `key` may be empty: then it is in the file of the certificate."""

    ca: str
    cert: str
    key: str
    context: ssl.SSLContext

    def for_postgresql(self) -> dict[str, str]:
        options = {"sslmode": "verify-full", "sslrootcert": self.ca}
        if self.cert:
            options |= {"sslcert": self.cert, "sslkey": self.key or self.cert}
        return options

    def for_mongodb(self) -> dict[str, Any]:
        options = {"tls": True, "tlsCAFile": self.ca}
        return {**options, "tlsCertificateKeyFile": self.cert} if self.cert else options

    def for_redis(self) -> dict[str, Any]:
        """For redis-py's pool. Its own class trusts the machine's authorities besides ours."""
        from redis.connection import SSLConnection

        context = self.context

        class Verified(SSLConnection):
            def _wrap_socket_with_ssl(self, sock: socket) -> ssl.SSLSocket:
                return context.wrap_socket(sock, server_hostname=self.host)

        return {"connection_class": Verified}


def read_tls(store: str, ca: str, cert: str, key: str) -> Tls | None:
    """What the three variables of a store say, None where all are empty.

    ImproperlyConfigured names the variable whose file cannot be read or does not fit.
    """
    if not ca and not cert and not key:
        return None
    if not ca:
        raise ImproperlyConfigured(f"{store}_TLS_CA must be set where a certificate or key is.")
    if key and not cert:
        raise ImproperlyConfigured(f"{store}_TLS_KEY is set, but {store}_TLS_CERT is not.")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the host's name too
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise ImproperlyConfigured(f"{store}_TLS_CA: no certificates in {ca}: {error}") from error
    if cert:
        try:
            # A key under a passphrase would be asked for at the terminal.
            context.load_cert_chain(cert, key or None, password="")  # nosec B106
        except OSError as error:
            names = f"{store}_TLS_CERT and {store}_TLS_KEY" if key else f"{store}_TLS_CERT"
            raise ImproperlyConfigured(
                f"{names}: no certificate with its key, without a passphrase, in "
                f"{' and '.join(filter(None, (cert, key)))}: {error}"
            ) from error
    return Tls(ca, cert, key, context)
