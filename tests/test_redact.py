"""No secret in any shown text: random URLs, tokens and flags, accepted by a parser or not."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udpoverlay.redact import HIDDEN, is_secret, redact, redact_field, redact_url

MARK = "hunter2"
"""In every secret below; no host, path or name holds it."""

ODD = "/?#@:[]{}()<>%&=+,;!$'\"\\|^`~ \t\n*.-_éß漢\u202e"
odd_text = st.text(st.sampled_from(ODD) | st.characters(codec="utf-8"), max_size=8)
secrets = st.builds(lambda before, after: before + MARK + after, odd_text, odd_text)
printable = st.text(
    st.sampled_from([char for char in ODD if not char.isspace() and char not in "\"'<>"])
    | st.sampled_from("abc019"),
    max_size=8,
)
words = st.builds(lambda before, after: before + MARK + after, printable, printable)
"""Secrets without what ends a URL in free text: spaces and quotes."""
schemes = st.sampled_from(["http://", "https://", "HTTPS://", "ftp://", "unix+http://", ""])
hosts = st.sampled_from(["etcd-1", "192.0.2.7:2379", "[2001:db8::1]:2379", "h.example.com:1", ""])
users = st.sampled_from(["root", "", "u%40x", "a.b"])


def urls(of: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """URLs with a secret as password, as user, as a parameter or in the fragment."""
    parts = st.tuples(schemes, users, of, hosts, st.sampled_from(["", "/", "/v3/kv?x=1"]))
    names = st.sampled_from(["token", "access_token", "Password", "api-key", "%74oken"])
    return st.one_of(
        parts.map(lambda p: f"{p[0]}{p[1]}:{p[2]}@{p[3]}{p[4]}"),
        parts.map(lambda p: f"{p[0] or 'http://'}{p[2]}@{p[3]}{p[4]}"),
        st.tuples(parts, names).map(lambda p: f"{p[0][0]}{p[0][3] or 'h'}/v3?x=1&{p[1]}={p[0][2]}"),
        st.tuples(parts, names).map(lambda p: f"{p[0][0]}{p[0][3] or 'h'}?{p[1]}={p[0][2]}"),
    )


def ambiguous(text: str) -> bool:
    """A comma and a scheme inside a password start the next item of a list, by the list's rule."""
    return "://" in text.partition("://")[2]


@given(urls(secrets))
def test_url_value_never_shows_its_secret(url: str) -> None:
    for text in (url, f"http://h:1,{url}", f"{url},https://h:1"):
        if not ambiguous(url):
            assert MARK not in redact_url(text)
            assert MARK not in redact_field("etcd_endpoints", text)


@given(urls(words), st.sampled_from(["{}", "cannot reach {}: refused", "x={}", "'{}'", "a {} b"]))
def test_free_text_never_shows_the_secret_of_a_url(url: str, frame: str) -> None:
    assert MARK not in redact(frame.format(url))


@given(st.sampled_from(["-etcd-password", "--token", "FLANNELD_ETCD_PASSWORD", "x.secret"]), words)
def test_free_text_never_shows_the_value_of_a_secret_name(name: str, secret: str) -> None:
    assert MARK not in redact(f"flag provided but not defined: {name}={secret} (sorry)")
    assert MARK not in redact(f"unknown {name}:a{secret}")


@given(secrets)
def test_json_never_shows_the_value_of_a_secret_name(secret: str) -> None:
    for ascii_only in (True, False):
        text = json.dumps({"user": "root", "password": secret, "n": 1}, ensure_ascii=ascii_only)
        assert MARK not in redact(text)
        assert '"n": 1' in redact(text)


@given(st.text(), st.text(), st.text())
def test_redacting_twice_changes_nothing_more(name: str, before: str, after: str) -> None:
    text = f"{before}://{after}"
    for once in (redact, redact_url):
        assert once(once(text)) == once(text)
    assert redact_field(name, redact_field(name, text)) == redact_field(name, text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p/w@h:1,https://a:b@c:2", "http://***@h:1,https://***@c:2"),
        ("u:hunter2@e:1,h:2", "***@e:1,h:2"),
        ("http://u:a b@h", "http://***@h"),
        ("http://u:12/34@h:1", "http://***@h:1"),
        ("http://h?token=a@b", "http://***"),
        ("http://h:1/?token=a", "http://h:1/?***"),
        ("http://u:x,http://y@h", "http://u:***,http://***@h"),
        ("http://h1:2379,http://h2:2379/v3", "http://h1:2379,http://h2:2379/v3"),
        ("http://[::1", "http://[::1"),
        ("http://etcd:port", "http://etcd:***"),
        ("10.0.0.1:2379", "10.0.0.1:2379"),
        ("", ""),
    ],
)
def test_url_value_keeps_host_and_port(text: str, shown: str) -> None:
    assert redact_url(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach https://10.0.0.1:6443: user kubernetes-admin@kubernetes is refused",
        "GET https://k:6443/api/v1/nodes?watch=true&continue=x failed",
        "see https://example.com/a. Then modprobe@tun.service",
        "check --etcd-username and --etcd-password: both are needed",
        "invalid password: check the user",
        "started at 12:30:01 by root@host",
        "basic authentication is off",
    ],
)
def test_plain_text_stays_readable(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("authorization: Basic cm9vdA", "authorization: Basic ***"),
        ("sent Bearer hunter2hunter2", "sent Bearer ***"),
        ("got eyJhbGciOiJSUzI1NiJ9.hunter2.sig back", "got *** back"),
        (
            "key -----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY----- x",
            "key -----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY----- x",
        ),
        ("-----BEGIN PRIVATE KEY-----\nhunter2 (cut", "-----BEGIN PRIVATE KEY-----***"),
    ],
)
def test_credentials_have_shapes_of_their_own(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_names_of_secrets() -> None:
    for name in ("etcd-password", "FLANNELD_ETCD_PASSWORD", "bearerToken", "apiKey", "x-secret-y"):
        assert is_secret(name)
        assert redact_field(name, MARK) == HIDDEN
        assert redact_field(name, "") == ""
    for name in ("etcd-keyfile", "iface", "kube_api_url", ""):
        assert not is_secret(name)


@pytest.mark.parametrize(
    "unit",
    ["a:", "token", "http://", "http://u:", "token='", "Bearer ", "eyJ", "a,", ",  ", "@", "x%"],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    short, long = (unit * (size // len(unit)) + "@b://x" for size in (20_000, 320_000))

    def seconds(text: str) -> float:
        started = time.process_time()
        redact(text)
        redact_url(text)
        return time.process_time() - started

    # 16 times the length; a quadratic pattern takes 256 times as long.
    assert seconds(long) < 100 * max(seconds(short), 0.002)
