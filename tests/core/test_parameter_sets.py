"""SPS and PPS as key frames carry them."""

from __future__ import annotations

import pytest

from tasks.core.parameter_sets import parameter_sets

AVC = bytes([1, 66, 0, 30, 0xFF, 0xE1, 0, 3, 0x67, 1, 2, 1, 0, 2, 0x68, 3])
HEVC = bytes([1]) + bytes(20) + bytes([3, 2, 0x20, 0, 1, 0, 2, 0x40, 1, 0x21, 0, 1, 0, 1, 0x42])


def test_units_stand_behind_their_lengths() -> None:
    assert parameter_sets("h264", AVC) == bytes([0, 0, 0, 3, 0x67, 1, 2, 0, 0, 0, 2, 0x68, 3])
    assert parameter_sets("hevc", HEVC) == bytes([0, 0, 0, 2, 0x40, 1, 0, 0, 0, 1, 0x42])
    short = AVC[:4] + b"\xfd" + AVC[5:]
    assert parameter_sets("h264", short)[:2] == b"\0\3", "lengths of two bytes"


@pytest.mark.parametrize(("codec", "whole"), [("h264", AVC), ("hevc", HEVC)])
def test_a_cut_record_gives_nothing(codec: str, whole: bytes) -> None:
    assert {parameter_sets(codec, whole[:length]) for length in range(len(whole))} == {b""}


def test_what_stands_in_the_stream_already_stays_as_it_is() -> None:
    assert parameter_sets("h264", b"\0\0\0\1\x67\1") == b"\0\0\0\1\x67\1"
    assert parameter_sets("mpeg4", b"\0\0\1\x20") == b"\0\0\1\x20"
    assert parameter_sets("vp9", b"\1\2\3") == b""
