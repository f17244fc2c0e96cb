"""trace/pcapng.py: what Wireshark's own reader and ours say of the files."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.support.records import NO_ROUTE, ORIGIN, SENT, record
from udpoverlay.decode.capture import read_capture
from udpoverlay.decode.tunnel import dissect
from udpoverlay.model.packet_record import POINTS
from udpoverlay.trace.identity import packet_id
from udpoverlay.trace.pcapng import CaptureWriter, capture, passed

LONG = record(SENT.data + bytes(1000), packets=45)
QUEUE_FULL = record(verdict="inbound_queue_full", point="tun-out", dropped=True)
FOREIGN = record(verdict="inbound_foreign_source", point="udp-in", dropped=True)
GONE = record()._replace(data=b"")
RECORDS = [SENT, NO_ROUTE, LONG, QUEUE_FULL, FOREIGN]
FIELDS = (
    "frame.interface_name",
    "frame.comment",
    "frame.packet_id",
    "frame.verdict.ebpf_tc",
    "frame.drop_count",
    "frame.time_epoch",
    "frame.len",
    "frame.cap_len",
    "ip.src",
    "ip.dst",
    "ip.checksum.status",
    "frame.p2p_dir",
)


@pytest.mark.parametrize(
    ("point", "points"),
    [
        ("tun-in", ("tun-in",)),
        ("udp-out", ("tun-in", "udp-out")),
        ("udp-in", ("udp-in",)),
        ("tun-out", ("udp-in", "tun-out")),
    ],
)
def test_packet_is_at_the_points_that_it_reached(point: str, points: tuple[str, ...]) -> None:
    assert passed(record(point=point)) == points


def test_same_records_are_the_same_file() -> None:
    assert capture(ORIGIN, RECORDS) == capture(ORIGIN, list(RECORDS))


def test_decode_reads_inner_and_outer_packets_back() -> None:
    frames = list(read_capture(io.BytesIO(capture(ORIGIN, RECORDS)), "t.pcapng"))
    assert len(frames) == 8
    inner, outer = frames[:2]
    assert (inner.data, inner.comment) == (SENT.data, "")
    assert outer.data[28:] == SENT.data
    assert outer.comment == "outbound_sent: handed to the kernel for a peer"
    assert inner.seconds == outer.seconds == pytest.approx(1_700_000_000.123456)
    found = dissect(outer)
    assert found.tunnel == "udp"
    assert found.problems == []
    assert found.outer is not None
    assert (found.outer.source, found.outer.destination) == ("192.0.2.1", "192.0.2.2")
    assert frames[2].comment.startswith("dropped, outbound_no_route: no peer has a subnet")
    assert (len(frames[3].data), frames[3].length) == (72, LONG.length)
    assert frames[4].comment.endswith("the first of 45 packets at once")
    arrived = dissect(frames[7])
    assert arrived.outer is not None
    assert (arrived.outer.source, arrived.outer.destination) == ("192.0.2.2", "192.0.2.1")


def test_packet_whose_bytes_are_gone_is_in_the_file() -> None:
    frames = list(read_capture(io.BytesIO(capture(ORIGIN, [GONE])), "t.pcapng"))
    assert [(len(frame.data), frame.length) for frame in frames] == [
        (0, GONE.length),
        (28, GONE.length + 28),
    ]
    found = [dissect(frame) for frame in frames]
    assert [each.problems for each in found] == [[], []]
    assert [each.other for each in found] == [
        "not one byte of it captured",
        "inner packet: not one byte of it captured",
    ]


def test_packet_is_dropped_at_its_last_point_alone() -> None:
    """epb_verdict: TC, shot."""
    for each in (NO_ROUTE, QUEUE_FULL, FOREIGN, SENT):
        blocks = CaptureWriter(ORIGIN).blocks(each)
        assert blocks.count(struct.pack("<BQ", 1, 2)) == each.dropped
        assert blocks.count(struct.pack("<BQ", 1, 0)) == len(passed(each)) - each.dropped


def test_lost_records_are_told_once_by_the_next_packet() -> None:
    writer = CaptureWriter(ORIGIN)
    writer.lost(3)
    writer.lost(4)
    first, then = writer.blocks(NO_ROUTE), writer.blocks(NO_ROUTE)
    assert (7).to_bytes(8, "little") in first
    assert len(then) == len(first) - 12


@pytest.mark.skipif(not shutil.which("tshark"), reason="no tshark on PATH")
def test_tshark_shows_points_reasons_ids_verdicts_and_losses(tmp_path: Path) -> None:
    file = tmp_path / "t.pcapng"
    file.write_bytes(capture(ORIGIN, RECORDS, lost=5))
    argv = ["tshark", "-r", str(file), "-o", "ip.check_checksum:TRUE", "-T", "fields"]
    argv += ["-E", "occurrence=f", *(word for name in FIELDS for word in ("-e", name))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    rows = [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]
    assert [row["frame.interface_name"] for row in rows] == [
        point for each in RECORDS for point in passed(each)
    ]
    assert {row["frame.interface_name"] for row in rows} == set(POINTS)
    assert [int(row["frame.packet_id"]) for row in rows] == [
        packet_id(each.data) for each in RECORDS for _ in passed(each)
    ]
    assert [row["frame.verdict.ebpf_tc"] for row in rows] == [
        "2" if each.dropped and point == each.point else "0"
        for each in RECORDS
        for point in passed(each)
    ]
    assert [row["frame.drop_count"] for row in rows] == ["5", *[""] * 7]
    assert {row["frame.time_epoch"] for row in rows} == {"1700000000.123456789"}
    assert "no peer has a subnet with the destination" in rows[2]["frame.comment"]
    assert [row["frame.p2p_dir"] for row in rows[:3]] == ["1", "0", "1"]
    sizes = [(row["frame.len"], row["frame.cap_len"]) for row in rows[3:5]]
    assert sizes == [(str(LONG.length), "72"), (str(LONG.length + 28), "100")]
    outer = rows[1]
    assert (outer["ip.src"], outer["ip.dst"]) == ("192.0.2.1", "192.0.2.2")
    assert outer["ip.checksum.status"] == "1"
