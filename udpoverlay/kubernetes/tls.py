"""TLS towards a Kubernetes API server: files or inline data in, one ssl.SSLContext out.

Owns: reading the pieces, saying which is wrong, and reading files again when they were rotated.
Must not know: kubeconfig's spelling, requests.
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from udpoverlay.errors import OperatorError
from udpoverlay.log import get_logger

__all__ = ["Piece", "Tls"]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """A certificate or key: in the file `path`, else `data`; `name` is for messages."""

    name: str
    path: Path | None = None
    data: bytes = b""

    def read(self) -> bytes:
        """The PEM text. Raises OperatorError naming the setting."""
        if self.path is None:
            return self.data
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise OperatorError(
                f"{self.name} {self.path}: {error.strerror}",
                fix="check the path and its rights; it must belong to the user of the daemon",
            ) from error

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the file does; (0, 0) for inline data or a file that is away now."""
        if self.path is None:
            return (0, 0)
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)


class Tls:
    """The context of one cluster, kept up to date with its files."""

    def __init__(
        self,
        authority: Piece | None,
        certificate: Piece | None,
        key: Piece | None,
        *,
        insecure: bool = False,
    ) -> None:
        """Raise OperatorError naming the piece that is missing, malformed or mismatched.

        Without an authority the system's are trusted. `insecure` trusts any server.
        """
        if (certificate is None) != (key is None):
            given, missing = ("client-certificate", "client-key")[:: 1 if certificate else -1]
            raise OperatorError(f"{given} is given without {missing}", fix=f"give {missing} too")
        self._authority, self._certificate, self._key = authority, certificate, key
        if authority is not None and insecure:
            raise OperatorError(
                f"{authority.name} and insecure-skip-tls-verify are both given",
                fix="leave insecure-skip-tls-verify away",
            )
        self.context = ssl.create_default_context(
            ssl.Purpose.SERVER_AUTH, cadata=_authorities(authority)
        )
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if insecure:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        if certificate is not None and key is not None:
            self.use_pair(certificate, key)
        self._stamps = self._stamp()

    def refresh(self) -> bool:
        """Read files that changed since they were read last; new connections use them.

        A file that is half-written, away or wrong keeps what was; the next call looks again. True
        when it read some.
        """
        stamps = self._stamp()
        if stamps == self._stamps:
            return False
        try:
            if self._authority is not None:
                self.context.load_verify_locations(cadata=_authorities(self._authority))
            if self._certificate is not None and self._key is not None:
                self.use_pair(self._certificate, self._key)
        except OperatorError as error:
            _log.warning("certificate files changed but cannot be used", why=str(error))
            return False
        self._stamps = stamps
        return True

    def use_pair(self, certificate: Piece, key: Piece) -> None:
        """Present this client certificate from now on."""
        pem = certificate.read()
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise _not_pem(certificate, "a certificate")
        secret = key.read()
        if b"PRIVATE KEY-----" not in secret:
            raise _not_pem(key, "a private key")

        def refuse_prompt() -> str:
            # OpenSSL would ask on the terminal; a daemon has none.
            raise OperatorError(f"{key.name} is encrypted", fix="give a key without pass phrase")

        # OpenSSL reads pairs from files only; this one is ours alone and gone at once.
        try:
            with tempfile.NamedTemporaryFile(prefix="udpoverlay-") as file:
                file.write(pem + b"\n" + secret)
                file.flush()
                self.context.load_cert_chain(file.name, password=refuse_prompt)
        except ssl.SSLError as error:
            raise OperatorError(
                f"{certificate.name} and {key.name} cannot be used: {error.reason or error}",
                fix="check that the key belongs to the certificate",
            ) from error
        except OSError as error:
            raise OperatorError(
                f"{certificate.name} cannot be handed to OpenSSL: {error.strerror}",
                fix="make room in the directory for temporary files (TMPDIR)",
            ) from error

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        pieces = (self._authority, self._certificate, self._key)
        return tuple(piece.stamp() for piece in pieces if piece is not None)


def _authorities(piece: Piece | None) -> str | None:
    if piece is None:
        return None
    text = piece.read().decode("ascii", "replace")
    try:
        ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise _not_pem(piece, "a certificate") from error
    return text


def _not_pem(piece: Piece, what: str) -> OperatorError:
    where = f" {piece.path}" if piece.path is not None else ""
    return OperatorError(
        f"{piece.name}{where} does not hold {what} in PEM form",
        fix="it starts with -----BEGIN …; a -data field holds the same in base64",
    )
