"""Certificates for tests: an authority, and what it signs for an hour."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

STORE_PASSWORD = "certificates"  # of Java's stores: they cannot do without


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM, in two files and in one, readable by their owner."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates into its folder; its own is in `ca`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.ca = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(folder.name, self._key, None, [])
        self.ca.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *addresses: str) -> Pair:
        """For a server at these names and addresses, or for a client, which has none."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, self._certificate, list(addresses))
        chain = certificate.public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pair = Pair(*(self.folder / f"{name}.{end}" for end in ("crt", "key", "pem")))
        for path, content in ((pair.cert, chain), (pair.key, secret), (pair.both, chain + secret)):
            path.touch(mode=0o600)
            path.write_bytes(content)
        password = STORE_PASSWORD.encode()
        self.keystore(name).write_bytes(
            pkcs12.serialize_key_and_certificates(
                name.encode(),
                key,
                certificate,
                [self._certificate],
                BestAvailableEncryption(password),
            )
        )
        return pair

    def keystore(self, name: str) -> Path:
        """The same for Java, under STORE_PASSWORD."""
        return self.folder / f"{name}.p12"

    def truststore(self) -> Path:
        path = self.folder / "ca.p12"
        entry = pkcs12.PKCS12Certificate(self._certificate, b"authority")
        encryption = BestAvailableEncryption(STORE_PASSWORD.encode())
        path.write_bytes(pkcs12.serialize_java_truststore([entry], encryption))
        return path

    def context(self, pair: Pair) -> ssl.SSLContext:
        """For a client that trusts this authority and shows the certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(pair.cert, pair.key)
        return context

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        addresses: list[str],
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now, is_ca = datetime.now(UTC), issuer is None
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(usage(is_ca), critical=True)
        )
        if not is_ca:
            both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        if addresses:
            names = x509.SubjectAlternativeName([general_name(one) for one in addresses])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)
