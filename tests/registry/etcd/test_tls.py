"""TLS towards a real etcd: every file and every way in which one can be wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.aio import at_end, run
from tests.support.certificates import CLIENT, Authority
from tests.support.etcd import EtcdServer, running, version
from tests.support.network import PATIENT
from udpoverlay.errors import OperatorError, RegistryDenied, RegistryUnavailable
from udpoverlay.model.config import EtcdConfig
from udpoverlay.registry.etcd.client import EtcdClient, parse_endpoints
from udpoverlay.registry.etcd.tls import client_context

CertDir = tuple[Path, Authority]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertDir:
    directory = tmp_path_factory.mktemp("tls")
    return directory, Authority(directory)


def tls_server(
    directory: Path, authority: Authority, name: str, *flags: str, binary: str = "", **issue: Any
) -> Any:
    pair = authority.issue(name, **issue)
    return running(
        directory / f"{name}-{version(binary)}",
        binary=binary,
        scheme="https",
        flags=[f"--cert-file={pair.cert}", f"--key-file={pair.key}", *flags],
    )


@pytest.fixture(scope="module")
def server(authority: CertDir, binary: str) -> Iterator[EtcdServer]:
    """TLS without client certificates."""
    directory, issuer = authority
    with tls_server(directory, issuer, "server", binary=binary) as started:
        yield started


@pytest.fixture(scope="module")
def strict(authority: CertDir, binary: str) -> Iterator[EtcdServer]:
    """TLS that asks for a client certificate."""
    directory, issuer = authority
    flags = ("--client-cert-auth", f"--trusted-ca-file={issuer.cert}")
    with tls_server(directory, issuer, "strict", *flags, binary=binary) as started:
        yield started


async def ask(url: str, **files: Any) -> int:
    """The revision that etcd tells, after a read and an opened watch."""
    client = EtcdClient(
        EtcdConfig(endpoints=(url,), **{name: str(path) for name, path in files.items()}),
        timeouts=PATIENT,
    )
    at_end(client.aclose)
    stream = await client.watch(b"/x", b"", 1)
    assert (await stream.read())[0].created
    stream.close()
    return (await client.range(b"/x")).header.revision


def refused(url: str, **files: Path) -> str:
    """The line of the refusal; it must carry a fix."""
    with pytest.raises(RegistryDenied) as caught:
        run(ask(url, **files))
    assert caught.value.fix
    return str(caught.value)


def hung_up(url: str, **files: Path) -> str:
    """The line of a connection that ended without a word."""
    with pytest.raises(RegistryUnavailable) as caught:
        run(ask(url, **files))
    return str(caught.value)


# ---------------------------------------------------------------- what works


@pytest.mark.etcd
def test_an_authority_alone_is_honoured(server: EtcdServer, authority: CertDir) -> None:
    assert run(ask(server.url, cafile=authority[1].cert)) >= 1


@pytest.mark.etcd
def test_a_client_certificate_is_presented(strict: EtcdServer, authority: CertDir) -> None:
    issuer = authority[1]
    pair = issuer.issue("client", usages=(CLIENT,), hosts=())
    files = {"cafile": issuer.cert, "certfile": pair.cert, "keyfile": pair.key}
    assert run(ask(strict.url, **files)) >= 1


@pytest.mark.etcd
async def test_a_renewed_client_certificate_is_picked_up_without_a_restart(
    strict: EtcdServer, authority: CertDir
) -> None:
    issuer = authority[1]
    pair = issuer.issue("rotated", days=(-3, -1))
    config = EtcdConfig(
        endpoints=(strict.url,),
        cafile=str(issuer.cert),
        certfile=str(pair.cert),
        keyfile=str(pair.key),
    )

    client = EtcdClient(config, timeouts=PATIENT)
    at_end(client.aclose)
    with pytest.raises(RegistryDenied):
        await client.range(b"/x")
    issuer.issue("rotated")  # the same files, written again
    assert (await client.range(b"/x")).header.revision >= 1


@pytest.mark.etcd
def test_an_endpoint_without_a_scheme_is_https_when_files_are_given(
    server: EtcdServer, authority: CertDir
) -> None:
    bare = server.url.removeprefix("https://")
    assert run(ask(bare, cafile=authority[1].cert)) >= 1
    assert parse_endpoints([bare], tls=False) == (f"http://{bare}",)


# ---------------------------------------------------------------- what the server shows


@pytest.mark.etcd
def test_without_the_authority_the_servers_certificate_is_refused(server: EtcdServer) -> None:
    line = refused(server.url)
    assert "its certificate is refused" in line
    assert "the system's authorities" in line


@pytest.mark.etcd
def test_another_authority_is_named(server: EtcdServer, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    line = refused(server.url, cafile=other.cert)
    assert f"etcd-cafile {other.cert}" in line


@pytest.mark.etcd
def test_an_expired_server_certificate(authority: CertDir) -> None:
    directory, issuer = authority
    with tls_server(directory, issuer, "expired", days=(-3, -1)) as old:
        line = refused(old.url, cafile=issuer.cert)
    assert "expired" in line
    assert "renew etcd's server certificate" in line


@pytest.mark.etcd
def test_a_server_certificate_from_the_future(authority: CertDir) -> None:
    directory, issuer = authority
    with tls_server(directory, issuer, "future", days=(2, 3)) as early:
        line = refused(early.url, cafile=issuer.cert)
    assert "not yet valid" in line
    assert "clock" in line


@pytest.mark.etcd
def test_a_server_certificate_for_another_name(authority: CertDir) -> None:
    directory, issuer = authority
    with tls_server(directory, issuer, "elsewhere", hosts=("10.9.9.9",)) as wrong:
        line = refused(wrong.url, cafile=issuer.cert)
        assert "IP address mismatch" in line
        assert "use an address in etcd-endpoints" in line
        line = refused(wrong.url.replace("127.0.0.1", "localhost"), cafile=issuer.cert)
        assert "use a name in etcd-endpoints" in line


# ---------------------------------------------------------------- what we show


@pytest.mark.etcd
def test_a_missing_client_certificate(strict: EtcdServer, authority: CertDir) -> None:
    line = refused(strict.url, cafile=authority[1].cert)
    assert "wants a client certificate" in line
    assert "etcd-certfile and etcd-keyfile" in line


@pytest.mark.etcd
def test_the_reason_is_told_every_time(strict: EtcdServer, authority: CertDir) -> None:
    """In TLS 1.3 it comes after the handshake, in a race with what we send."""
    for _ in range(20):
        assert "wants a client certificate" in refused(strict.url, cafile=authority[1].cert)


@pytest.mark.etcd
def test_a_client_certificate_of_another_authority(
    strict: EtcdServer, authority: CertDir, tmp_path: Path
) -> None:
    pair = Authority(tmp_path, "other").issue("stranger")
    files = {"cafile": authority[1].cert, "certfile": pair.cert, "keyfile": pair.key}
    line = refused(strict.url, **files)
    assert f"refused our client certificate (etcd-certfile {pair.cert})" in line


@pytest.mark.etcd
def test_an_expired_client_certificate(strict: EtcdServer, authority: CertDir) -> None:
    issuer = authority[1]
    pair = issuer.issue("late", days=(-3, -1))
    files = {"cafile": issuer.cert, "certfile": pair.cert, "keyfile": pair.key}
    line = refused(strict.url, **files)
    assert f"refused our client certificate (etcd-certfile {pair.cert})" in line
    assert "it ran out at 20" in line


@pytest.mark.etcd
def test_a_client_certificate_from_the_future(strict: EtcdServer, authority: CertDir) -> None:
    issuer = authority[1]
    pair = issuer.issue("early", days=(2, 3))
    files = {"cafile": issuer.cert, "certfile": pair.cert, "keyfile": pair.key}
    assert "it is not valid before 20" in refused(strict.url, **files)


# ---------------------------------------------------------------- wrong scheme


@pytest.mark.etcd
def test_http_to_a_tls_port_says_write_https(server: EtcdServer) -> None:
    assert "try https://" in hung_up(server.url.replace("https", "http"))


@pytest.mark.etcd
def test_https_to_a_plain_port_says_write_http(tmp_path: Path, authority: CertDir) -> None:
    with running(tmp_path) as plain:
        line = hung_up(plain.url.replace("http", "https"), cafile=authority[1].cert)
    assert "try http://" in line


# ---------------------------------------------------------------- wrong files


def wrong_files(**files: Path | str) -> str:
    names = {"keyfile": "", "certfile": "", "cafile": ""}
    with pytest.raises(OperatorError) as caught:
        client_context(**{**names, **{name: str(path) for name, path in files.items()}})
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("name", ["cafile", "certfile", "keyfile"])
def test_a_missing_file_is_named(authority: CertDir, name: str) -> None:
    pair = authority[1].issue("good")
    files: dict[str, Path | str] = {"certfile": pair.cert, "keyfile": pair.key}
    files[name] = "/nowhere/at.pem"
    assert re.match(f"etcd-{name} /nowhere/at.pem: No such file", wrong_files(**files))


@pytest.mark.parametrize("name", ["cafile", "certfile", "keyfile"])
def test_a_file_of_the_wrong_kind_is_named(authority: CertDir, tmp_path: Path, name: str) -> None:
    pair = authority[1].issue("good")
    files: dict[str, Path | str] = {"certfile": pair.cert, "keyfile": pair.key}
    for number, text in enumerate((b"", b"hello", b"\xff\x00" * 99)):
        wrong = tmp_path / f"{name}{number}.pem"
        wrong.write_bytes(text)
        files[name] = wrong
        assert f"etcd-{name} {wrong} holds no" in wrong_files(**files)


def test_a_damaged_certificate_is_named(authority: CertDir, tmp_path: Path) -> None:
    pair = authority[1].issue("good")
    damaged = tmp_path / "damaged.crt"
    damaged.write_text(pair.cert.read_text().replace("M", "A", 3))
    assert str(damaged) in wrong_files(certfile=damaged, keyfile=pair.key)
    assert f"etcd-cafile {damaged}" in wrong_files(cafile=damaged)


def test_a_key_of_another_certificate_is_a_mismatch(authority: CertDir) -> None:
    one, two = authority[1].issue("one"), authority[1].issue("two")
    line = wrong_files(certfile=one.cert, keyfile=two.key)
    assert f"etcd-keyfile {two.key} does not belong to etcd-certfile {one.cert}" in line


def test_an_encrypted_key_asks_nobody(authority: CertDir) -> None:
    pair = authority[1].issue("locked", password=b"sesame")
    assert "is encrypted" in wrong_files(certfile=pair.cert, keyfile=pair.key)


@pytest.mark.parametrize(("given", "missing"), [("certfile", "keyfile"), ("keyfile", "certfile")])
def test_half_a_pair_names_the_other_half(authority: CertDir, given: str, missing: str) -> None:
    pair = authority[1].issue("good")
    path = pair.cert if given == "certfile" else pair.key
    line = wrong_files(**{given: path})
    assert line.startswith(f"etcd-{given} is given without etcd-{missing}")
