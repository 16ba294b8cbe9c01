"""Uploads to and downloads from S3 through our store, against boto3's own upload_file and download_file.

A moto server in a process of its own answers over HTTP on loopback; it needs as much CPU as its clients and shares
their cores, so that the ratio and the client's CPU seconds count, not MB/s. boto3 runs with its defaults (parts of 8
MiB, 10 threads). Our store sends files up to 16 MiB in one request and larger ones in parts of 8 MiB with 4 threads;
what it downloads goes through one request into its cache on disk, synced (fsync), which download_file does not do.
Every object has a key of its own, and nothing is in the cache.

The check: SHA-256 of the object as another client reads it (uploads), of the file (downloads).
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks._results import Plot, Row, Table, parser, publish
from benchmarks._s3_server import counted_requests, s3_server
from benchmarks._turns import Side, alternate

NAME = "transfer"
BUCKET = "transfer"
KEY = "object.bin"
OURS = "reelflow"
PLAIN = "boto3"
SIZES_MIB = (1, 8, 64, 256)
Direction = Literal["upload", "download"]


def main(argv: Sequence[str]) -> None:
    """Measures both sides at every size."""
    options = parser(NAME, __doc__)
    options.add_argument("--mib", type=int, nargs="+", default=SIZES_MIB, help="sizes of the object, MiB")
    options.add_argument("--repeat", type=int, default=7, help="rounds that count; the median is shown")
    arguments = options.parse_args(argv)
    tables = []
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name), BUCKET) as client:
        for direction in ("upload", "download"):
            rows = [
                row for mib in arguments.mib for row in measure(direction, mib, Path(name), client, arguments.repeat)
            ]
            plot = Plot("MiB", ["MB/s"], by="side", log_x=True, label="megabytes per second")
            tables.append(Table(direction.capitalize(), rows, plots=[plot]))
    publish(arguments, NAME, __doc__, tables, packages=("boto3", "s3transfer", "moto"))


def measure(direction: Direction, mib: int, folder: Path, client: Any, repeat: int) -> list[Row]:
    """One row per side."""
    source = folder / "source.bin"
    source.write_bytes(os.urandom(mib * 2**20))
    wanted = digest(source)
    sides = uploads(source, client) if direction == "upload" else downloads(source, folder, client)

    def check(name: str, found: Path | None) -> None:
        got = digest(found) if found else remote_digest(client, f"{name}/{KEY}")
        assert got == wanted, f"{name}: {direction} of {mib} MiB gave other bytes"

    requests = {}
    for name, side in sides.items():
        side.prepare()
        with counted_requests() as sent:
            side.run()
        requests[name] = len(sent)
    times = alternate(sides, repeat, check)
    for name in sides:
        client.delete_object(Bucket=BUCKET, Key=f"{name}/{KEY}")
    return [
        {
            "MiB": mib,
            "side": name,
            "MB/s": mib * 2**20 / 1e6 / took.wall_s,
            "wall s": took.wall_s,
            "client CPU s": took.cpu_s,
            "requests": requests[name],
            "wall / boto3": took.wall_ratio(times[PLAIN]),
            "CPU / boto3": took.cpu_ratio(times[PLAIN]),
        }
        for name, took in times.items()
    ]


def uploads(source: Path, client: Any) -> dict[str, Side[Path | None]]:
    """Our store takes the file away, so it is given another link to it each time."""
    from tasks.store import open_store

    store, given = open_store(f"s3://{BUCKET}/{OURS}"), source.with_name("given.bin")

    def link() -> None:
        given.unlink(missing_ok=True)
        given.hardlink_to(source)

    return {
        OURS: Side(lambda: store.put(KEY, given), link),
        PLAIN: Side(lambda: client.upload_file(str(given), BUCKET, f"{PLAIN}/{KEY}"), link),
    }


def downloads(source: Path, folder: Path, client: Any) -> dict[str, Side[Path | None]]:
    from tasks.store import open_store

    store, target = open_store(f"s3://{BUCKET}/{OURS}"), folder / "target.bin"
    for name in (OURS, PLAIN):
        client.upload_file(str(source), BUCKET, f"{name}/{KEY}")

    def plain() -> Path:
        client.download_file(BUCKET, f"{PLAIN}/{KEY}", str(target))
        return target

    def forget() -> None:
        shutil.rmtree(folder / "cache" / "objects", ignore_errors=True)

    return {
        OURS: Side(lambda: store.local(KEY), forget),
        PLAIN: Side(plain, functools.partial(target.unlink, missing_ok=True)),
    }


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remote_digest(client: Any, key: str) -> str:
    found = hashlib.sha256()
    for chunk in client.get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(2**20):
        found.update(chunk)
    return found.hexdigest()
