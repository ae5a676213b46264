"""A certificate authority for one run of the tests, and server certificates: good, or wrong in one thing."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Kind = Literal["good", "wrong-name", "expired", "self-signed", "client"]
WRONG_NAME = "other.example"

_DAY = datetime.timedelta(days=1)


class Authority:
    """A CA whose files are in `directory`: `ca_file`, and what `certificate(kind)` gives.

    names: DNS names (also `*.domain`) and IP addresses that every server certificate but `wrong-name` is for. `client`
    is for a client, whose name is `app`.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self.directory = directory
        self.names = tuple(names)
        self.ca_file = directory / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("rdsproxy tests CA")
        self._lock = threading.Lock()
        self._issued: dict[Kind, tuple[Path, Path]] = {}
        self.ca_file.write_bytes(_pem(self._sign(self._key, self._name, (), is_authority=True)))

    def certificate(self, kind: Kind) -> tuple[Path, Path]:
        """The paths of a certificate and of its key, issued when first asked for."""
        with self._lock:
            if kind not in self._issued:
                self._issued[kind] = self._issue(kind)
            return self._issued[kind]

    def _issue(self, kind: Kind) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        names = {"wrong-name": (WRONG_NAME,), "client": ()}.get(kind, self.names)
        certificate = self._sign(
            key,
            _name("app" if kind == "client" else names[0]),
            names,
            days=-1 if kind == "expired" else 30,
            is_self_signed=kind == "self-signed",
        )
        place, key_place = self.directory / f"{kind}.pem", self.directory / f"{kind}.key"
        place.write_bytes(_pem(certificate))
        key_place.touch(mode=0o600)
        key_place.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return place, key_place

    def _sign(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        names: Sequence[str],
        *,
        days: int = 30,
        is_self_signed: bool = False,
        is_authority: bool = False,
    ) -> x509.Certificate:
        signer, issuer = (key, subject) if is_self_signed else (self._key, self._name)
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(_usage(is_authority), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_general_name, names)), critical=False)
        if not is_authority:
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(signer, hashes.SHA256())


@functools.cache
def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
