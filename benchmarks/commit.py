"""Milliseconds to commit a result and to store an artifact, on a folder and on S3, beside Prefect's result persistence.

A result of ten minutes of media (600 frames, 150 segments) is committed for a new media by `commit_result`: read what
is there, then write on the condition that it has not changed. `reelflow, again` commits the same result once more,
which finds it there. An artifact is three files and the manifest that is written after them. Prefect's result
persistence (`ResultStore.write`, pickle, the same record or the same bytes) and one plain write of the same bytes
stand beside them: neither keeps a condition, so that of two runs the last one wins. On a folder our writes are synced
to disk (fsync), the other two are not. S3 is a moto server in a process of its own over HTTP on loopback: a real
bucket adds its round trip for each request.

The check: what was committed is read back equal; a second commit that expects nothing there is refused on both
stores.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks._results import Row, Table, parser, publish
from benchmarks._s3_server import counted_requests, s3_server
from benchmarks._turns import Side, Times, alternate
from tasks.core.schema import ArtifactRef, Result
from tasks.store import Store

NAME = "commit"
BUCKET = "commit"
STAGE = "frames"
FILES = {"frames.parquet": 400_000, "times.json": 4_000, "preview.jpg": 30_000}
OURS, AGAIN, PREFECT, PLAIN = "reelflow", "reelflow, again", "Prefect result persistence", "plain write"

Commit = Callable[[str], object]
"""Does one commit under a new name."""


def main(argv: Sequence[str]) -> None:
    """Measures all sides on both kinds of store."""
    options = parser(NAME, __doc__)
    options.add_argument("--count", type=int, default=20, help="commits that are timed together")
    options.add_argument("--repeat", type=int, default=7, help="rounds that count; the median is shown")
    arguments = options.parse_args(argv)
    result = make_result()
    rows: dict[str, list[Row]] = {"result": [], "artifact": []}
    with tempfile.TemporaryDirectory() as name, s3_server(Path(name), BUCKET) as client:
        folder = Path(name)
        for place in ("folder", "S3"):
            target = Target(place, folder, client)
            check_condition(target.store)
            for what, commits in (("result", result_commits(target, result)), ("artifact", artifact_commits(target))):
                rows[what] += measure(place, commits, arguments.count, arguments.repeat)
    size = len(result.model_dump_json(by_alias=True, indent=1))
    files = ", ".join(f"{size // 1000} kB" for size in FILES.values())
    tables = [
        Table("Commit of a result", rows["result"], f"result.json has {size / 1000:.0f} kB."),
        Table("Storing an artifact", rows["artifact"], f"Three files ({files}) and a manifest."),
    ]
    publish(arguments, NAME, __doc__, tables, packages=("prefect-aws", "boto3", "moto"))


class Target:
    """A folder or a bucket, as each side sees it."""

    def __init__(self, place: str, folder: Path, client: Any) -> None:
        from prefect.filesystems import LocalFileSystem
        from prefect.results import ResultStore
        from prefect_aws import AwsCredentials
        from prefect_aws.client_parameters import AwsClientParameters
        from prefect_aws.s3 import S3Bucket

        from tasks.store import open_store

        self.work = folder / place
        self.work.mkdir()
        self._client = client if place == "S3" else None
        self.store = open_store(f"s3://{BUCKET}/ours" if self._client else str(self.work / "ours"))
        storage: Any = LocalFileSystem(basepath=str(self.work / "prefect"))
        if self._client:
            parameters = AwsClientParameters(endpoint_url=client.meta.endpoint_url)
            credentials = AwsCredentials(aws_client_parameters=parameters, region_name="us-east-1")
            storage = S3Bucket(bucket_name=BUCKET, bucket_folder="prefect", credentials=credentials)
        self.results: Any = ResultStore(result_storage=storage, cache_result_in_memory=False)

    def write(self, name: str, data: bytes) -> None:
        """One write without a condition."""
        if self._client:
            self._client.put_object(Bucket=BUCKET, Key=f"plain/{name}", Body=data)
            return
        path = self.work / "plain" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def measure(place: str, commits: dict[str, Commit], count: int, repeat: int) -> list[Row]:
    """One row per side: `count` commits under new names in each round."""
    numbers = itertools.count()

    def several(commit: Commit) -> None:
        for _ in range(count):
            commit(f"{next(numbers):032x}")

    def counted(commit: Commit) -> int | None:
        commit(f"{next(numbers):032x}")
        with counted_requests() as sent:
            commit(f"{next(numbers):032x}")
        return len(sent) or None

    requests = {name: counted(commit) for name, commit in commits.items()}
    sides = {name: Side(functools.partial(several, commit)) for name, commit in commits.items()}
    times: dict[str, Times] = alternate(sides, repeat, lambda _name, _output: None)
    return [
        {
            "store": place,
            "side": name,
            "ms": 1000 * took.wall_s / count,
            "client CPU ms": 1000 * took.cpu_s / count,
            "requests": requests[name],
            "wall / Prefect": took.wall_ratio(times[PREFECT]),
        }
        for name, took in times.items()
    ]


def result_commits(target: Target, result: Result) -> dict[str, Commit]:
    """Each reads back what it has written first, once."""
    from tasks.records.results import commit_result, read_result

    def named(name: str) -> Result:
        return result.model_copy(update={"media_id": name})

    def prefect(name: str) -> None:
        target.results.write(obj=named(name), key=f"result-{name}")

    def plain(name: str) -> None:
        target.write(name, named(name).model_dump_json(by_alias=True, indent=1).encode())

    first = commit_result(target.store, named("0" * 31 + "a"))
    found = read_result(target.store, first.media_id)
    assert found is not None, "the committed result is not there"
    assert found[0] == first, "the committed result is read back otherwise"
    prefect("first")
    assert target.results.read("result-first").result == named("first"), "Prefect reads another result"
    return {
        OURS: lambda name: commit_result(target.store, named(name)),
        AGAIN: lambda _: commit_result(target.store, first),
        PREFECT: prefect,
        PLAIN: plain,
    }


def artifact_commits(target: Target) -> dict[str, Commit]:
    from tasks.records import artifacts

    choose = random.Random(1)
    contents = {name: choose.randbytes(size) for name, size in FILES.items()}

    def ours(name: str) -> ArtifactRef:
        key = artifacts.content_key(name)
        uri = target.store.uri(f"media/{name}/{STAGE}/{key}")
        ref = ArtifactRef(
            media_id=name, stage=STAGE, key=key, uri=uri, store=target.store.address, finished=time.time()
        )
        with target.store.workspace() as out:
            for file, content in contents.items():
                (out / file).write_bytes(content)
            artifacts.save(target.store, ref, out)
        return ref

    def prefect(name: str) -> None:
        target.results.write(obj=contents, key=f"artifact-{name}")

    first = ours("first")
    assert artifacts.intact(target.store, first.uri), "the artifact is not whole"
    for file, content in contents.items():
        assert artifacts.artifact_file(first, file).read_bytes() == content, f"{file} is read back otherwise"
    prefect("first")
    assert target.results.read("artifact-first").result == contents, "Prefect reads another artifact"
    return {
        OURS: ours,
        AGAIN: lambda _: artifacts.find(target.store, first.media_id, STAGE, first.key),
        PREFECT: prefect,
        PLAIN: lambda name: target.write(name, pickle.dumps(contents)),
    }


def check_condition(store: Store) -> None:
    """Raises AssertionError where a commit does not notice that someone else was first."""
    from tasks.core.errors import StoreConflict

    store.commit("condition", b"first", None)
    try:
        store.commit("condition", b"second", None)
    except StoreConflict:
        found = store.read("condition")
        assert found is not None, f"{store.root}: a refused commit removed the object"
        assert found[0] == b"first", f"{store.root}: a refused commit has written"
        return
    raise AssertionError(f"{store.root}: two commits won that both expected nothing there")


def make_result(frames: int = 600, segments: int = 150) -> Result:
    """A result as ten minutes of media give it."""
    choose = random.Random(1)
    boxes = [
        {
            "xyxy": [round(choose.uniform(0, 1900), 2) for _ in range(4)],
            "class": choose.choice(["person", "car", "bicycle"]),
            "confidence": round(choose.uniform(0.25, 1), 4),
        }
        for _ in range(5 * frames)
    ]
    return Result.model_validate(
        {
            "media_id": "0" * 32,
            "key": "1" * 32,
            "source": "s3://bucket/recordings/talk.mp4",
            "media": {
                "container": "mov,mp4,m4a,3gp,3g2,mj2",
                "bytes": 90_000_000,
                "duration_s": float(frames),
                "start_offset_s": 0.0,
                "video": {
                    "index": 0, "codec": "h264", "width": 1920, "height": 1080, "fps": Fraction(25), "start": 0.0,
                    "duration_s": float(frames),
                },
            },
            "options": {},
            "models": {"detections": {"name": "yolo11n", "digest": "2" * 64}},
            "transcript": {
                "language": "en",
                "text": "and so on " * segments,
                "segments": [
                    {"id": n, "start": 4.0 * n, "end": 4.0 * n + 3, "text": "and so on", "avg_logprob": -0.3}
                    for n in range(segments)
                ],
            },
            "clips": [],
            "detections": {
                "frames_sampled": frames,
                "sample_fps": 1.0,
                "classes": {},
                "frames": [{"index": n, "time": float(n), "boxes": boxes[5 * n : 5 * n + 5]} for n in range(frames)],
            },
            "artifacts": {},
            "timing": {"frames": {"wall_s": 1.0, "cpu_s": 1.0, "runs": 1}},
            "cost": {"total": 0.001},
            "created": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )  # fmt: skip
