"""The page of `udpoverlay web` in a real Chromium, on daemons that carry real packets.

With SCREENSHOTS=FOLDER it leaves the pictures that docs/reference/web.md shows.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import need
from tests.support.captures import udp
from tests.support.cluster import ADMIN_SOCKET, Cluster, Node, wait_until
from tests.support.packets import ipv4
from tests.support.patience import DEADLINE
from tests.support.wire import ping

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.root,
    pytest.mark.etcd,
    pytest.mark.browser,
    pytest.mark.timeout(240),
]

SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
NO_ROUTE = "10.5.253.9"
"""In the overlay, and no host has it."""
SEND = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.sendto(b"hello", (sys.argv[1], 53))
"""
WAY = ["tun-in", "udp-out", "udp-in", "tun-out"]


@dataclass
class Site:
    """Two hosts, and the page that shows both."""

    one: Node
    other: Node
    url: str

    def ping(self) -> None:
        ping(self.one.host, self.one.address, self.other.address)

    def drop(self) -> None:
        """A packet that no host has the address of."""
        self.one.host.run([sys.executable, "-c", SEND, NO_ROUTE], DEADLINE)

    def damaged(self) -> None:
        """A packet whose inner checksum is wrong: the other host's kernel drops it."""
        data = ipv4(
            udp(b"hello", value=0x1234),
            source=self.one.address,
            destination=self.other.address,
            ttl=9,
        )
        code = (
            "import socket, sys\n"
            "sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
            "sock.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 0))\n"
        )
        self.one.host.run([sys.executable, "-c", code, data.hex(), self.other.address], DEADLINE)


@contextmanager
def web(*words: str) -> Iterator[str]:
    """The URL of a page that runs meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-m", "udpoverlay.cli", "web", "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            text += line
        yield json.loads(text)["url"]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Cluster("n1", "n2") as cluster:
        one, other = cluster.start("n1"), cluster.start("n2")
        cluster.wait_for_peers(one, other)
        folder, name = os.path.split(ADMIN_SOCKET)
        descriptors = [node.host.folder(folder) for node in (one, other)]
        mine, also = (f"/proc/{os.getpid()}/fd/{fd}/{name}" for fd in descriptors)
        try:
            with web(f"--admin-socket={mine}", f"--also={also}") as url:
                yield Site(one, other, url)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - may be missing

    with sync_playwright() as driver:
        # Chromium's sandbox refuses root, as whom the tests that need namespaces run.
        found = driver.chromium.launch(executable_path=need.chromium(), args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page; what it writes to its console, and requests to others, are failures."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(DEADLINE * 1000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    usual = (
        "data:",
        "http://127.0.0.1:",
        "Failed to load resource: the server responded with a status of 400",
    )
    assert [text for text in said if not text.startswith(usual)] == []


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with opened(browser, site.url) as found:
        yield found


def until(page: Page, act: Callable[[], None], selector: str) -> None:
    """`act` until there is such an element."""

    def there() -> bool:
        act()
        return page.locator(selector).count() > 0

    wait_until(there, selector)


def row(words: str) -> str:
    return f'.row:has-text("{words}")'


def steps(page: Page) -> list[str]:
    return [found.split()[0] for found in page.locator("#way li strong").all_inner_texts()]


def test_topology_and_rates_show_both_hosts(page: Page, site: Site) -> None:
    until(page, site.ping, "#map .edge.busy")
    assert page.locator("#map .node.asked").count() == 2
    cards = page.locator(".host").all_inner_texts()
    for node, card in zip((site.one, site.other), cards, strict=True):
        assert node.public_ip in card
        assert node.subnet in card
        assert "unaccounted 0" in card
    assert page.locator("#state").inner_text() == "live, 2 hosts asked"
    assert re.fullmatch(r"[\d.]+ ?k?bit/s", page.locator("#map .rate").first.text_content() or "")


def test_drops_are_named_with_their_reason(page: Page, site: Site) -> None:
    until(page, site.drop, f'.host:has-text("{site.one.public_ip}") >> text=no route')
    text = page.locator(".host").first.inner_text()
    assert "no peer has a subnet with the destination" in text


def test_packet_is_followed_through_its_four_points(page: Page, site: Site) -> None:
    until(page, site.ping, row("echo reply"))
    page.locator(row("echo reply")).first.click()
    page.wait_for_selector("#packet .field")
    assert steps(page) == WAY
    assert page.locator("#way .passed").count() == 4
    names = page.locator(".layer h4").all_inner_texts()
    assert names[:4] == ["outer IPv4", "outer UDP", "inner IPv4", "ICMP"]


def test_bytes_are_coloured_by_header_and_explained(page: Page, site: Site) -> None:
    until(page, site.ping, row("echo request"))
    page.locator(row("echo request")).first.click()
    page.wait_for_selector("#packet .field")
    sizes = {
        kind: page.locator(f"#bytes .{kind}").count()
        for kind in ("outer", "udp", "inner", "transport", "payload")
    }
    assert sizes == {"outer": 20, "udp": 8, "inner": 20, "transport": 8, "payload": 44}
    grounds = {
        page.locator(f"#bytes .{kind}").first.evaluate("e => getComputedStyle(e).backgroundColor")
        for kind in sizes
    }
    assert len(grounds) == 5
    ttl = page.locator('.layer:has-text("inner IPv4") .field:has-text("TTL")')
    assert "routers that it may still pass" in ttl.inner_text()
    ttl.hover()
    chosen = page.locator("#bytes .byte.chosen")
    assert chosen.count() == 1
    assert f"\n{int(chosen.inner_text(), 16)}\n" in ttl.inner_text()
    page.locator("#bytes .byte").nth(28 + 9).click()  # the inner protocol
    assert "protocol" in page.locator(".field.chosen").inner_text()


def test_dropped_packet_stops_at_its_point(page: Page, site: Site) -> None:
    page.locator("#drops").click()
    until(page, site.drop, row(NO_ROUTE))
    assert page.locator(".row:not(.dropped)").count() == 0
    page.locator(row(NO_ROUTE)).first.click()
    page.wait_for_selector("#way .stopped")
    assert "no route" in page.locator("#way .stopped").inner_text()
    assert page.locator("#way .not-reached").count() == 3
    page.locator("#close").click()
    assert page.locator("#packet").is_hidden()


def test_bad_inner_checksum_is_named_at_the_point_and_at_its_field(page: Page, site: Site) -> None:
    page.fill("#filter-text", "in and udp")
    page.press("#filter-text", "Enter")
    until(page, site.damaged, row("UDP"))
    page.locator(row("UDP")).first.click()
    page.wait_for_selector("#way .stopped")
    assert "the kernel drops it: UDP checksum 1234" in page.locator("#way .stopped").inner_text()
    wrong = page.locator(".field:has(.bad)")
    assert wrong.count() == 1
    assert "UDP checksum 1234" in wrong.inner_text()


def test_filter_that_is_wrong_says_where_and_a_right_one_goes_on(page: Page, site: Site) -> None:
    page.fill("#filter-text", "drops and prot tcp")
    page.locator("#filter button[type=submit]").click()
    error = page.locator("#filter-error:not([hidden])")
    assert "unknown word 'prot': did you mean proto?" in error.inner_text()
    page.fill("#filter-text", "icmp and out")
    page.locator("#filter button[type=submit]").click()
    until(page, site.ping, row("echo request"))
    assert page.locator("#filter-error").is_hidden()
    assert set(page.locator(".row .way").all_inner_texts()) == {"out"}


def test_pause_keeps_the_list_and_going_on_fills_it(page: Page, site: Site) -> None:
    until(page, site.ping, row("echo"))
    page.locator("#pause").click()
    before = page.locator(".row").count()
    site.ping()
    page.wait_for_timeout(1500)  # several pieces of the stream: none may be added
    assert page.locator(".row").count() == before
    page.locator("#pause").click()
    until(page, site.ping, f"#list li:nth-child({before + 1})")


def test_names_of_hosts_and_reasons_are_text_and_never_markup(page: Page, site: Site) -> None:
    """What a hostile daemon could say, put where the page reads it."""
    page.evaluate(
        """async () => {
          const { show } = await import("./hosts.js");
          const { draw } = await import("./map.js");
          const evil = "<img src=x onerror=document.title='owned'>";
          const host = { name: evil, public_ip: evil, error: evil, peers: [], drops: [] };
          draw(document.getElementById("map"), [host]);
          show(document.getElementById("hosts"), [host]);
        }"""
    )
    assert page.locator("img").count() == 0
    assert page.title() == "udpoverlay"
    assert "<img" in page.locator(".host").first.inner_text()


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const worst = { ratio: 99, text: "" };
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length || element.closest("noscript")) continue;
    const style = getComputedStyle(element);
    const svg = element.namespaceURI.endsWith("svg");
    const [a, b] = [light(parse(svg ? style.fill : style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const text = element.textContent.slice(0, 60);
    if (ratio < worst.ratio) Object.assign(worst, { ratio, text });
  }
  return worst;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_page_is_readable(browser: Browser, site: Site, scheme: Any, width: int) -> None:
    """No text is cut off at the side, all of it stands out from its ground (WCAG 2.2: 4.5 to 1)."""
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with opened(browser, site.url, **options) as page:
        until(page, site.drop, row("no route"))
        until(page, site.ping, "#map .edge.busy")
        until(page, site.ping, row("echo reply"))
        page.locator(row("echo reply")).first.click()
        page.wait_for_selector("#packet .field")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        worst = page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor")
            == {
                "light": "rgb(255, 255, 255)",
                "dark": "rgb(18, 22, 28)",
            }[scheme]
        )
        if SCREENSHOTS:
            page.mouse.move(0, 0)
            page.screenshot(path=Path(SCREENSHOTS) / f"web-{scheme}-{width}.png", full_page=True)


def test_page_says_when_its_program_ends_and_goes_on_when_it_is_back(
    browser: Browser, site: Site
) -> None:
    context = browser.new_context()
    found = context.new_page()
    try:
        folder, name = os.path.split(ADMIN_SOCKET)
        descriptor = site.one.host.folder(folder)
        with suppress(OSError):
            path = f"--admin-socket=/proc/{os.getpid()}/fd/{descriptor}/{name}"
            with web(path) as url:
                found.goto(url)
                found.wait_for_selector('#state:has-text("live, 1 host asked")')
            found.wait_for_selector('#state.bad:has-text("udpoverlay web has ended")')
        os.close(descriptor)
    finally:
        context.close()
