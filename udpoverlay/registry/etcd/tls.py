"""The TLS settings of the etcd client: files in, one checked ssl.SSLContext out.

Owns: reading the three files and saying which one is wrong. Must not know: endpoints, requests.

flannel reads a CA file only together with a client certificate and key (pkg/subnet/etcd/registry.go
newTlsConfig); here a CA file alone is honoured. Without one the system's authorities are trusted.
"""

from __future__ import annotations

import ssl
from datetime import datetime, timezone
from pathlib import Path

from udpoverlay.errors import OperatorError

__all__ = ["client_context", "outside_validity"]

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


def client_context(*, keyfile: str, certfile: str, cafile: str) -> ssl.SSLContext:
    """TLS ≥ 1.2 with the server's certificate and name checked.

    Raises OperatorError naming the file that is missing, unreadable, malformed or mismatched.
    """
    if bool(keyfile) != bool(certfile):
        given, missing = ("etcd-keyfile", "etcd-certfile")[:: 1 if keyfile else -1]
        raise OperatorError(f"{given} is given without {missing}", fix=f"give {missing} too")
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cafile:
        pem = _read("etcd-cafile", cafile)
        try:
            if _BEGIN not in pem:
                raise ValueError("no certificate")
            # A context with an own authority trusts that one alone, as Go's RootCAs does.
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=pem)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        except (ssl.SSLError, ValueError) as error:
            raise OperatorError(
                f"etcd-cafile {cafile} holds no certificate in PEM form",
                fix="give the authority's certificate, -----BEGIN CERTIFICATE-----",
            ) from error
    context.set_alpn_protocols(["h2"])  # gRPC's servers serve no client that does not offer it
    if certfile:
        _load_pair(context, keyfile, certfile)
    return context


def outside_validity(certfile: str, now: datetime) -> str:
    """Say when a certificate ran out or when it begins; "" when it is valid or unreadable.

    A server that refuses a client certificate does not always say why; this often does.
    """
    try:
        pem = _read("etcd-certfile", certfile)
        first = pem[pem.index(_BEGIN) : pem.index(_END) + len(_END)]
        begin, end = _validity(ssl.PEM_cert_to_DER_cert(first))
    except (OperatorError, ValueError, IndexError):
        return ""
    if now > end:
        return f"it ran out at {end:%Y-%m-%d %H:%M:%S} UTC"
    return f"it is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC" if now < begin else ""


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """Read notBefore and notAfter (RFC 5280 4.1: Certificate → tbsCertificate → validity)."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, end = _element(der, at)
    at = end if tag == 0xA0 else at  # the version is optional
    for _ in ("serialNumber", "signature", "issuer"):
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)
    times = []
    for _ in ("notBefore", "notAfter"):
        tag, start, at = _element(der, at)
        form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"  # UTCTime, GeneralizedTime
        time = datetime.strptime(der[start:at].decode("ascii"), form)
        times.append(time.replace(tzinfo=timezone.utc))
    return times[0], times[1]


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag, first and past-the-last position of the content of one DER element (X.690 8.1)."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start : start + size], "big"), start + size
    return tag, start, start + length


def _load_pair(context: ssl.SSLContext, keyfile: str, certfile: str) -> None:
    if _BEGIN not in _read("etcd-certfile", certfile):
        raise OperatorError(
            f"etcd-certfile {certfile} holds no certificate in PEM form",
            fix="give the client certificate, -----BEGIN CERTIFICATE-----",
        )
    key = _read("etcd-keyfile", keyfile)
    if "PRIVATE KEY-----" not in key:
        raise OperatorError(
            f"etcd-keyfile {keyfile} holds no private key in PEM form",
            fix="give the certificate's private key, -----BEGIN PRIVATE KEY-----",
        )

    def refuse_prompt() -> str:
        # OpenSSL would ask on the terminal; a daemon has none.
        raise OperatorError(
            f"etcd-keyfile {keyfile} is encrypted", fix="give a key without a pass phrase"
        )

    try:
        context.load_cert_chain(certfile, keyfile, password=refuse_prompt)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OperatorError(
                f"etcd-keyfile {keyfile} does not belong to etcd-certfile {certfile}",
                fix="give the key with which the certificate was made",
            ) from error
        raise OperatorError(
            f"etcd-certfile {certfile} or etcd-keyfile {keyfile} cannot be used: "
            f"{error.reason or error}",
            fix="check both files: openssl x509 -in CERT -noout; openssl pkey -in KEY -noout",
        ) from error


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise OperatorError(
            f"{setting} {path}: {error.strerror}",
            fix="check the path and its permissions; it must belong to the user of the daemon",
        ) from error
