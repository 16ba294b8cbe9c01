"""One connection from its start to its end: files, HTTP, HLS, another size in the middle, encoding anew."""

from __future__ import annotations

import itertools
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from tasks.core import web
from tasks.core.live import camera
from tasks.core.live.address import Address
from tasks.core.live.names import WindowRecord
from tasks.core.live.spool import Spool
from tasks.core.ports import free_port
from tests.core.live import samples as take
from tests.core.live.test_recovery import kept, play, start, task
from tests.media import ffmpeg, write

Sampled = Callable[..., Path]


def capture(folder: Path, url: str, **values: Any) -> tuple[int, list[WindowRecord], list[dict[str, Any]]]:
    """Exit status, windows in the spool, and messages."""
    said: list[dict[str, Any]] = []
    stated: dict[str, Any] = {"window_s": 1.0, "private_hosts": True} | values
    status, _ = camera.run(
        task(folder, **stated),
        Address(url),
        lambda kind, values: said.append({"kind": kind} | values),
        threading.Event(),
    )
    return status, kept(folder), said


def shown(folder: Path, records: list[WindowRecord]) -> list[int]:
    return [n for record in records for _, n in take.frames(folder / "ready" / Path(record.key).name)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    folder = tmp_path_factory.mktemp("site")
    server = ThreadingHTTPServer(("", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def hls(site: tuple[Path, str], sample: Sampled) -> str:
    """4 s in segments of 1 s with dates, behind a master playlist; as MPEG-TS and as fragmented MP4."""
    folder, address = site
    source = sample("write", seconds=4.0, gop=25)
    for name, kind in (("ts", "mpegts"), ("mp4", "fmp4")):
        (folder / name).mkdir()
        ffmpeg("-i", source, "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod", "-hls_flags",
               "program_date_time", "-hls_segment_type", kind, folder / name / "live.m3u8")  # fmt: skip
        playlist = folder / name / "live.m3u8"
        parts = re.split("(?<=TIME:).*", playlist.read_text())
        dated = [f"2026-01-05T10:00:0{second}.250Z" for second in range(4)]
        playlist.write_text("".join(itertools.chain.from_iterable(itertools.zip_longest(parts, dated, fillvalue=""))))
        (folder / name / "master.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nlive.m3u8\n")
    return address


def test_a_file_is_read_to_its_end_and_twice_gives_the_same(sample: Sampled, tmp_path: Path) -> None:
    source = sample("write", seconds=4.0, gop=25)
    told = {"keep_time": True, "started": 1_700_000_000.0, "run": "file-1"}
    for folder in (tmp_path / "a", tmp_path / "b"):
        status, records, said = capture(folder, str(source), **told)
        assert (status, [record.frames for record in records]) == (0, [25, 25, 25, 25])
        assert [record.start[-13:] for record in records] == [
            "22:13:20.000Z",
            "22:13:21.000Z",
            "22:13:22.000Z",
            "22:13:23.000Z",
        ]
        assert [message["kind"] for message in said if message["kind"] == "failed"] == []
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    for path in (tmp_path / "a" / "ready").glob("*.mp4"):
        assert path.read_bytes() == (tmp_path / "b" / "ready" / path.name).read_bytes()


@pytest.mark.parametrize("kind", ["ts", "mp4"])
def test_hls_is_read_segment_by_segment_and_dated_by_its_playlist(
    hls: str, site: tuple[Path, str], tmp_path: Path, kind: str
) -> None:
    status, records, said = capture(tmp_path, f"{hls}/{kind}/master.m3u8")
    assert status == 0, said
    assert shown(tmp_path, records) == list(range(100))
    assert [(record.clock, record.start) for record in records] == [
        ("hls-pdt", f"2026-01-05T10:00:0{second}.250Z") for second in range(4)
    ]
    assert len({record.run for record in records}) == 1


def test_a_segment_that_has_gone_begins_a_run(hls: str, site: tuple[Path, str], tmp_path: Path) -> None:
    folder = site[0] / "ts"
    lines = (folder / "live.m3u8").read_text().splitlines()
    gone = [line.replace("live2.ts", "none.ts") for line in lines]
    (folder / "gone.m3u8").write_text("\n".join(gone))
    status, records, said = capture(tmp_path, f"{hls}/ts/gone.m3u8")
    assert status == 0, said
    assert shown(tmp_path, records) == [*range(50), *range(75, 100)]
    assert len({record.run for record in records}) == 2
    assert records[2].gap_before_s == pytest.approx(1.0, abs=0.1)


def test_segments_obey_the_rules_for_hosts(
    hls: str, site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = hls.rpartition(":")[2]
    monkeypatch.setattr(web, "is_public", lambda address: address == "127.0.0.1")
    listed = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
    for name, target, words in (
        ("other", f"http://127.0.0.2:{port}/ts/live0.ts", "private or local"),
        ("file", "file:///etc/hostname", "no http"),
        ("concat", "concat:/etc/hostname", "no http"),
    ):
        (site[0] / f"{name}.m3u8").write_text(listed.format(target))
        status, records, said = capture(tmp_path, f"{hls}/{name}.m3u8", private_hosts=False)
        assert (status, records) == (camera.FINAL, [])
        assert words in said[-1]["text"]
    status, records, _ = capture(tmp_path / "good", f"{hls}/ts/live.m3u8", private_hosts=False)
    assert (status, sum(record.frames for record in records)) == (0, 100)


def test_a_playlist_that_is_no_playlist_or_encrypted_is_named(hls: str, site: tuple[Path, str], tmp_path: Path) -> None:
    (site[0] / "page.m3u8").write_text("<html>no</html>")
    (site[0] / "key.m3u8").write_text(
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:1,\nts/live0.ts\n#EXT-X-ENDLIST\n'
    )
    for name, words in (("page", "no playlist"), ("key", "encrypted (AES-128)")):
        status, _, said = capture(tmp_path, f"{hls}/{name}.m3u8")
        assert status in (camera.FAILED, camera.FINAL)
        assert words in said[-1]["text"]


def test_a_file_by_http_is_paced_and_ends(hls: str, site: tuple[Path, str], tmp_path: Path) -> None:
    write(site[0] / "short.mkv", seconds=2.0, gop=25)
    status, records, said = capture(tmp_path, f"{hls}/short.mkv")
    assert status == 0, said
    assert shown(tmp_path, records) == list(range(50))
    assert records[-1].ends - records[0].begins == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("scheme", ["rtmp", "srt"])
def test_what_an_encoder_sends_is_recorded(sample: Sampled, tmp_path: Path, scheme: str) -> None:
    """ffmpeg plays the encoder, and waits for us."""
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}" + ("/app/key" if scheme == "rtmp" else "?passphrase=0123456789ab")
    listening = ["-f", "flv", "-listen", "1", url] if scheme == "rtmp" else ["-f", "mpegts", f"{url}&mode=listener"]
    source = sample("write", seconds=4.0, gop=25)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-re", "-i", str(source), "-c", "copy", *listening]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as encoder:
        status, records, said = capture(tmp_path, url)
        deadline = time.monotonic() + 20
        while not records and time.monotonic() < deadline:  # until it listens
            status, records, said = capture(tmp_path, url)
        encoder.kill()
    assert status == (camera.FAILED if scheme == "rtmp" else camera.OK), said
    seen = shown(tmp_path, records)
    assert seen[:-3] == list(range(len(seen) - 3)), "a B frame of the last ones may not have come"
    assert len(seen) >= 90, "an SRT sender that ends takes its last packets with it"
    assert (records[0].codec, records[0].audio_codec, records[0].clock) == ("h264", "aac", "wall-min")
    assert "0123456789ab" not in repr(said)


def test_encoding_anew_gives_windows_of_exactly_the_length(sample: Sampled, tmp_path: Path) -> None:
    source = sample("write", seconds=4.0, gop=1000, audio=None)
    told = {"keep_time": True, "started": 1_700_000_000.0, "transcode": True, "refresh_rate": 5, "bitrate": 400_000}
    status, records, said = capture(tmp_path, str(source), **told)
    assert status == 0, said
    assert [(r.frames, r.media_duration_s, r.keyframe_aligned) for r in records] == [(5, 1.0, True)] * 4
    assert shown(tmp_path, records) == list(range(0, 100, 5))
    assert records[0].codec == "h264"


def test_another_size_in_the_middle_of_a_stream_begins_a_window(sample: Sampled, tmp_path: Path) -> None:
    """As on the wire: the new parameter sets come with the key frame, and nothing else says so."""
    streams = []
    for number, size in enumerate(((192, 108), (256, 144))):
        path = tmp_path / f"{number}.ts"
        ffmpeg("-i", sample("write", seconds=2.0, gop=50, audio=None, size=size), "-c", "copy", "-f", "mpegts", path)
        streams.append(take.read(path))
    (layout, first), (_, second) = streams
    shift = round(2.0 / layout.streams[0].time_base)
    later = [replace(s, pts=(s.pts or 0) + shift) for s in second]
    live, time, _ = start(tmp_path / "spool", layout, window_s=3.0)
    play(live, time, [replace(s, pts=(s.pts or 0) - (first[0].pts or 0)) for s in [*first, *later]])
    live.finish()
    records = kept(tmp_path / "spool")
    assert [(r.width, r.height, r.frames, r.media_duration_s) for r in records] == [
        (192, 108, 50, 2.0),
        (256, 144, 50, 2.0),
    ]
    assert shown(tmp_path / "spool", records) == [*range(50), *range(50)]
    assert len({record.run for record in records}) == 1


def test_an_address_never_stands_in_what_is_said(tmp_path: Path) -> None:
    for url in (
        "rtsp://admin:s3cr%3Et@127.0.0.1:9/x",
        "rtmp://admin:s3cr%3Et@127.0.0.1:9/app/k",
        "http://admin:s3cr%3Et@127.0.0.1:9/x.m3u8",
    ):
        status, _, said = capture(tmp_path, url, open_s=3.0, read_s=3.0)
        assert status == camera.FAILED
        assert said[-1]["kind"] == "failed"
        assert "s3cr" not in repr(said)
        assert "admin" not in repr(said)
    assert Spool(tmp_path, 1).waiting() == []
