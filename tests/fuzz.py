"""Damaged media through the real command: `make fuzz`, `python -m tests.fuzz --count 1000 --seed 1`.

Media of many containers and codecs, made by ffmpeg, are damaged in seven ways and given to one `backfill` in a folder
of its own. Each must end as done, cached or quarantined within its time, and nothing may stay behind: no process, no
temporary file, no entry of a cache. Prints the table of outcomes; what broke a rule is kept and named.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flows.backfill.batch import TOGETHER
from tests.media import ffmpeg
from tests.prefect_home import environment_of
from tests.source_tree import ROOT

SECONDS = 2
LONGEST_S = 10.0
"""That one file may take, from its turn to its report, on a machine that does nothing else."""
GROWTH = 1.3
"""Memory of the command and its workers at the end, in that of the middle of the run."""
GROWTH_BYTES = 150 * 2**20
"""Less than this is no growth: allocators keep what they were given."""
FEWEST_SAMPLES = 400
IN_FLIGHT = 2
WARM_UP = IN_FLIGHT * TOGETHER
"""The first files, in order of names, wait for workers to start and to load their models: those of the first runs."""
OPTIONS = (
    "transcript.model=bundled",
    "detections.weights=bundled",
    "detections.image_size=320",
    "embeddings.enabled=false",
)
WAIT_S = 20.0
"""In which processes that are being ended are gone."""

SOUND = {
    "wav": "pcm_s16le", "ulaw.wav": "pcm_mulaw", "w64": "pcm_s16le", "aiff": "pcm_s16be", "au": "pcm_s16be",
    "caf": "pcm_s16be", "alac.caf": "alac", "flac": "flac", "mp3": "libmp3lame", "ogg": "libvorbis", "opus": "libopus",
    "aac": "aac", "m4a": "aac", "ac3": "ac3", "eac3": "eac3", "wv": "wavpack", "wma": "wmav2", "mka": "flac",
}  # fmt: skip
"""By the end of a name, the codec of its sound."""
FILM = {
    "mp4": ("libx264", "aac"), "fragmented.mp4": ("libx264", "aac"), "hevc.mp4": ("libx265", "aac"),
    "mov": ("mjpeg", "pcm_s16be"), "mkv": ("libx264", "libopus"), "webm": ("libvpx", "libopus"),
    "av1.webm": ("libsvtav1", "libopus"), "avi": ("mpeg4", "libmp3lame"), "ts": ("libx264", "aac"),
    "mpg": ("mpeg2video", "mp2"), "flv": ("flv", "libmp3lame"), "wmv": ("wmv2", "wmav2"),
    "mxf": ("mpeg2video", "pcm_s16le"), "3gp": ("h263", "aac"), "ogv": ("libtheora", "libvorbis"),
}  # fmt: skip
"""The codecs of its pictures and of its sound."""
MORE = {
    "m4a": ("-f", "ipod"),
    "fragmented.mp4": ("-movflags", "frag_keyframe+empty_moov"),
    "av1.webm": ("-preset", "12"),
    "3gp": ("-ar", "16000"),
    "mxf": ("-ar", "48000"),
}

Damage = Callable[[bytearray, random.Random, bytes], bytes | bytearray]


def _bytes(data: bytearray, choose: random.Random, other: bytes) -> bytearray:
    for _ in range(choose.randint(1, 40)):
        data[choose.randrange(len(data))] = choose.randrange(256)
    return data


def _header(data: bytearray, choose: random.Random, other: bytes) -> bytearray:
    for _ in range(choose.randint(1, 12)):
        data[choose.randrange(min(512, len(data)))] = choose.randrange(256)
    return data


def _cut(data: bytearray, choose: random.Random, other: bytes) -> bytearray:
    return data[: choose.randint(1, len(data) - 1)]


def _zeros(data: bytearray, choose: random.Random, other: bytes) -> bytearray:
    at, length = _stretch(data, choose)
    data[at : at + length] = bytes(length)
    return data


def _repeated(data: bytearray, choose: random.Random, other: bytes) -> bytearray:
    at, length = _stretch(data, choose)
    return data[: at + length] + data[at : at + length] * choose.randint(1, 3) + data[at + length :]


def _spliced(data: bytearray, choose: random.Random, other: bytes) -> bytes:
    return bytes(data[: choose.randrange(1, len(data))]) + other[choose.randrange(len(other)) :]


def _sizes(data: bytearray, choose: random.Random, other: bytes) -> bytearray:
    """Numbers where headers have lengths and counts."""
    for _ in range(choose.randint(1, 4)):
        at = 4 * choose.randrange(max(1, min(1024, len(data) - 8) // 4))
        value = choose.choice((0, 0xFFFFFFFF, 0x80000000))
        data[at : at + 4] = value.to_bytes(4, choose.choice(("little", "big")))
    return data


def _stretch(data: bytearray, choose: random.Random) -> tuple[int, int]:
    at = choose.randrange(len(data))
    return at, min(len(data) - at, choose.randint(16, max(17, len(data) // 3)))


DAMAGES: dict[str, Damage] = {
    "bytes": _bytes,
    "header": _header,
    "cut": _cut,
    "zeros": _zeros,
    "repeated": _repeated,
    "spliced": _spliced,
    "sizes": _sizes,
}


def make_good(folder: Path) -> dict[str, bytes]:
    """One small file of each kind: two seconds of a moving pattern and a tone that comes and goes."""
    tone = f"sine=440:sample_rate=48000:duration={SECONDS},tremolo=f=2:d=0.9"
    pattern = f"testsrc2=size=176x144:rate=25:duration={SECONDS}"
    made: dict[str, bytes] = {}
    for kind in (*SOUND, *FILM):
        path = folder / f"good.{kind}"
        inputs, coding = ["-f", "lavfi", "-i", tone], ["-c:a", SOUND.get(kind, "")]
        if kind in FILM:
            video, audio = FILM[kind]
            pixels = "yuvj420p" if video == "mjpeg" else "yuv420p"
            inputs = ["-f", "lavfi", "-i", pattern, *inputs]
            coding = ["-c:v", video, "-pix_fmt", pixels, "-c:a", audio]
        ffmpeg(*inputs, *coding, "-ac", "1", "-threads", "1", "-strict", "-2", *MORE.get(kind, ()), path)
        made[kind] = path.read_bytes()
    return made


def make_damaged(folder: Path, count: int, seed: int, good: dict[str, bytes]) -> None:
    """`count` files named NUMBER-DAMAGE.KIND: each kind and each damage in turn, the rest by the seed."""
    kinds, damages = list(good), list(DAMAGES)
    for number in range(count):
        choose = random.Random(f"{seed} {number}")
        kind = kinds[number % len(kinds)]
        damage = damages[(number + number // len(kinds)) % len(damages)]
        other = good[choose.choice(kinds)]
        data = DAMAGES[damage](bytearray(good[kind]), choose, other)
        (folder / f"{number:05d}-{damage}.{kind}").write_bytes(data)


@dataclass
class Outcome:
    """What one backfill of damaged files came to."""

    reports: list[dict[str, Any]]
    errors: str
    """What it wrote to stderr."""
    status: int
    seconds: float
    memory: list[int]
    """Bytes of the command and all its children, sampled twice a second."""
    left: list[str] = field(default_factory=list)
    """Processes and files that stayed behind."""

    def faults(self, names: Sequence[str], longest_s: float = LONGEST_S) -> list[str]:
        """Every rule that was broken, in words."""
        found = [f"{path} stayed behind" for path in self.left]
        if "Traceback" in self.errors:
            found.append(f"a traceback: {self.errors[self.errors.index('Traceback') :][:2000]}")
        if self.status not in (0, 3):
            found.append(f"exit status {self.status}: {self.errors[-1000:]}")
        reported = Counter(Path(report["source"]).name for report in self.reports)
        found += [f"{name}: {reported[name]} reports" for name in names if reported[name] != 1]
        first = set(names[:WARM_UP])
        for report in self.reports:
            name = Path(report["source"]).name
            if report["status"] not in ("done", "cached", "quarantined"):
                found.append(f"{name}: {report['status']}, {report['error']}")
            if name not in first and report["seconds"] > longest_s:
                found.append(f"{name}: {report['seconds']:.1f} s")
        return found + self._growth()

    def _growth(self) -> list[str]:
        """Between the second quarter, when everything is loaded, and the last."""
        quarter = len(self.memory) // 4
        if quarter < FEWEST_SAMPLES // 4:
            return []
        before = statistics.median(self.memory[quarter : 2 * quarter])
        after = statistics.median(self.memory[-quarter:])
        if after < max(GROWTH * before, before + GROWTH_BYTES):
            return []
        return [f"memory grew from {before / 2**20:.0f} to {after / 2**20:.0f} MiB"]

    def table(self) -> str:
        """Outcomes by container and by damage."""
        rows: dict[str, Counter[str]] = {}
        for report in self.reports:
            damage, _, kind = Path(report["source"]).name.partition("-")[2].partition(".")
            outcome = (report["error"] or {}).get("code", report["status"])
            for row in ("all", damage, kind):
                rows.setdefault(row, Counter())[outcome] += 1
        columns = sorted({outcome for row in rows.values() for outcome in row}, key=lambda name: -rows["all"][name])
        lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        order = ["all", *DAMAGES, *SOUND, *FILM]
        lines += [f"| {row} | " + " | ".join(str(rows[row][c]) for c in columns) + " |" for row in order if row in rows]
        return "\n".join(lines)


def backfill(folder: Path, work: Path) -> Outcome:
    """One backfill of a folder by the real command, with a home, a cache and a place for temporary files of its own."""
    temporary, home = work / "tmp", work / "home"
    for place in (temporary, home):
        place.mkdir(parents=True)
    names = {k: v for k, v in environment_of(home).items() if k != "REELFLOW_DASK_ADDRESS"}
    environment = names | {"TMPDIR": str(temporary), "REELFLOW_CACHE_DIR": str(work / "cache")}
    command = [sys.executable, "-m", "flows", "backfill", str(folder), "--store", str(work / "store"), "--json"]
    command += ["--in-flight", str(IN_FLIGHT), *(word for option in OPTIONS for word in ("--set", option))]
    started = time.monotonic()
    with (work / "stdout").open("w") as out, (work / "stderr").open("w") as errors:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=errors, start_new_session=True)
        watch = _Watch(child.pid)
        try:
            status = child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGINT)
            child.wait()
            raise
    seconds = time.monotonic() - started
    seen = watch.end()
    reports = [json.loads(line) for line in (work / "stdout").read_text().splitlines()]
    left = [f"process {process.pid} ({process.name()})" for process in _alive(seen)]
    left += [str(path.relative_to(work)) for path in _files_left(work)]
    return Outcome(reports, (work / "stderr").read_text(), status, seconds, watch.memory, left)


class _Watch:
    """Follows a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self.memory: list[int] = []
        self._process = psutil.Process(pid)
        self._seen: set[psutil.Process] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def end(self) -> set[psutil.Process]:
        """Every descendant that was seen."""
        self._ended.set()
        self._thread.join()
        return self._seen

    def _follow(self) -> None:
        while not self._ended.wait(0.5):
            try:
                family = [self._process, *self._process.children(recursive=True)]
            except psutil.Error:
                continue
            self._seen.update(family[1:])
            total = 0
            for process in family:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.memory.append(total)


def _alive(processes: set[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended after a while."""
    _, alive = psutil.wait_procs(list(processes), timeout=WAIT_S)
    return list(alive)


def _files_left(work: Path) -> list[Path]:
    """Temporary files, and what only a run in progress may have in a cache or a store.

    Dask keeps two empty locks in its folder: they are no run's.
    """
    places = ("tmp", "cache/work", "cache/sources", "store/.work")
    found = [path for place in places for path in (work / place).rglob("*") if path.is_file()]
    found = [path for path in found if not (path.suffix == ".lock" and path.parent.name == "dask-scratch-space")]
    return [*found, *(work / "store").glob("media/*/lease.json")]


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 1 where a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="damaged files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=LONGEST_S, help="seconds that one file may take")
    parser.add_argument("--keep", type=Path, help="folder for files that broke a rule; default: build/fuzz")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reelflow-fuzz-", ignore_cleanup_errors=True) as place:
        work = Path(place)
        (work / "in").mkdir()
        (work / "good").mkdir()
        good = make_good(work / "good")
        make_damaged(work / "in", asked.count, asked.seed, good)
        names = sorted(path.name for path in (work / "in").iterdir())
        print(f"{len(names)} files of {len(good)} kinds, {len(DAMAGES)} damages, seed {asked.seed}", file=sys.stderr)
        outcome = backfill(work / "in", work)
        print(outcome.table())
        slowest = max((report["seconds"] for report in outcome.reports), default=0.0)
        peak = max(outcome.memory, default=0) / 2**20
        print(f"\n{outcome.seconds:.0f} s in all, slowest file {slowest:.1f} s, peak memory {peak:.0f} MiB")
        faults = outcome.faults(names, asked.longest)
        kept = asked.keep or ROOT / "build" / "fuzz"
        for fault in faults:
            print(f"FAULT {fault}")
            name = fault.partition(":")[0]
            if name in names:
                kept.mkdir(parents=True, exist_ok=True)
                shutil.copy(work / "in" / name, kept / f"seed{asked.seed}-{name}")
        if faults:
            print(f"{len(faults)} rules were broken; the files are in {kept}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
