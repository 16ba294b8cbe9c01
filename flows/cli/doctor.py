"""Is this host fit to run the pipeline? One check per line, each with what to do when it is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
from imageio_ffmpeg import get_ffmpeg_exe

from flows.runtime.local_cluster import planned_workers
from tasks.core.errors import ReelflowError
from tasks.core.fetch import display_source
from tasks.core.host import available_cores, available_memory
from tasks.core.sandbox.children import Bounds, run_program
from tasks.core.sandbox.confine import lacking
from tasks.records.lookup import look_for_models
from tasks.settings import settings
from tasks.store import open_store

MIN_FREE_DISK = 5 * 2**30
MIN_MEMORY = 4 * 2**30
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Check:
    name: str
    state: Literal["ok", "note", "fault"]
    found: str
    advice: str = ""


def check_all(store: str | None = None) -> Iterator[Check]:
    """Every check, as it is done; `store` is the address of another store than the one that is set."""
    yield _python()
    yield _ffmpeg()
    yield _confinement()
    yield Check("cpu", "ok", f"{available_cores()} cores")
    yield _gpu()
    yield _memory()
    yield _disk("cache", settings().cache, "REELFLOW_CACHE_DIR")
    yield check_store(store)
    yield _prefect()
    yield _dask()
    yield _weights()


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "ok", version)
    return Check(
        "python", "fault", version, "use Python 3.11 or 3.12: make distclean, then make setup PYTHON=python3.11"
    )


def _ffmpeg() -> Check:
    try:
        binary = get_ffmpeg_exe()
        first = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Check("ffmpeg", "fault", str(error), "install again with make setup; it comes with imageio-ffmpeg")
    return Check("ffmpeg", "ok", " ".join(first.stdout.split()[:3]))


def _confinement() -> Check:
    """What decoders of untrusted media are kept from, and that they work so."""
    lacks = lacking()
    try:
        done = run_program([get_ffmpeg_exe(), "-version"], Bounds(wall_s=TIMEOUT_S, cpu_s=TIMEOUT_S))
    except (OSError, RuntimeError) as error:
        return Check("sandbox", "fault", str(error), "decoders cannot be started; install again with make setup")
    if done.returncode:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return Check("sandbox", "fault", last, "ffmpeg does not run confined; report this with the output of uname -a")
    if lacks:
        return Check(
            "sandbox",
            "note",
            "; ".join(lacks),
            "analyse only media that you trust here, or use Linux 6.12 or later without a filter that forbids Landlock",
        )
    return Check("sandbox", "ok", "decoders have no network, no keys and no files but their own")


def _gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Check("gpu", "ok", names)
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return Check(
            "gpu",
            "fault",
            "a GPU that torch cannot use",
            "compare `nvidia-smi` with torch.version.cuda; update the driver",
        )
    return Check(
        "gpu", "note", "none: models run on the CPU", "large Whisper models want one; base.en and yolo11n do without"
    )


def _memory() -> Check:
    total = available_memory()
    found = f"{total / 2**30:.1f} GiB"
    if total < MIN_MEMORY:
        return Check("memory", "fault", found, "set REELFLOW_WORKERS=1 and use small models")
    return Check("memory", "ok", found)


def _disk(name: str, folder: Path, setting: str) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Check(name, "fault", f"{folder}: {error.strerror}", f"set {setting} to a folder that can be written")
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / 2**30:.1f} GiB free"
    if not os.access(folder, os.W_OK):
        return Check(name, "fault", found, f"set {setting} to a folder that can be written")
    if free < MIN_FREE_DISK:
        return Check(name, "fault", found, f"free space, or set {setting} elsewhere")
    return Check(name, "ok", found)


def check_store(address: str | None = None) -> Check:
    """Writes and removes an object in a store, by default the one that is set."""
    address = address or settings().store
    try:
        store = open_store(address)
        exists = store.exists()
        guarantee = store.check()
    except ReelflowError as error:
        return Check("store", "fault", display_source(address), error.message)
    found = store.root if store.address == store.root else f"{store.root} ({store.address})"
    if guarantee != "atomic":
        return Check(
            "store",
            "note",
            f"{found} ignores conditional writes",
            "where two hosts commit the same result at the same moment the last one stays; use a server with "
            "conditional writes (S3, MinIO) to be certain",
        )
    if not exists:
        return Check(
            "store",
            "note",
            f"{found} does not exist yet",
            "analyze and backfill make it; if there is one, look at its name",
        )
    return Check("store", "ok", found)


def _prefect() -> Check:
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        return Check("prefect", "ok", "no server named: local runs start one of their own")
    try:
        answer = httpx.get(f"{url}/health", timeout=TIMEOUT_S)
        anybody = httpx.get(f"{url}/admin/version", timeout=TIMEOUT_S).is_success
    except httpx.HTTPError as error:
        return Check("prefect", "fault", f"{url}: {error}", "start it (prefect server start), or unset PREFECT_API_URL")
    if answer.status_code != httpx.codes.OK:
        return Check(
            "prefect", "fault", f"{url} answers {answer.status_code}", "look at the server's log; is the URL right?"
        )
    if anybody:
        return Check(
            "prefect",
            "note",
            f"{url} asks nobody who they are",
            "web pages and other users that reach it run code: set PREFECT_SERVER_API_AUTH_STRING for the server and "
            "PREFECT_API_AUTH_STRING here",
        )
    return Check("prefect", "ok", url)


def _dask() -> Check:
    address = settings().dask_address
    if not address:
        return Check("dask", "ok", f"no scheduler named: local runs start {planned_workers()} workers")
    from distributed import Client

    from flows.runtime.dask_client import UNREACHED

    try:
        with Client(address, timeout=TIMEOUT_S, set_as_default=False) as client:
            workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    except UNREACHED as error:
        return Check(
            "dask",
            "fault",
            f"{address} does not answer, or asks for another certificate: {error}",
            "start `dask scheduler`, set its certificate (infra/README.md), or unset REELFLOW_DASK_ADDRESS",
        )
    offered = {name: sum(w["resources"].get(name, 0) for w in workers) for name in ("CPU", "GPU")}
    found = f"{address}, {len(workers)} workers, CPU {offered['CPU']:g}, GPU {offered['GPU']:g}"
    if lacking := [name for name, amount in offered.items() if amount < 1]:
        start = f"dask worker {address} --nthreads 1 --resources {lacking[0]}=1 --preload tasks.preload"
        return Check("dask", "fault", found, f"no worker offers {' nor '.join(lacking)}: {start}")
    if not address.startswith("tls://"):
        return Check("dask", "note", found, "whoever reaches it runs code: `python -m deployments certificates` (TLS)")
    return Check("dask", "ok", found)


def _weights() -> Check:
    from tasks.core.options import AnalyzeOptions

    try:
        found, missing = look_for_models(AnalyzeOptions())
    except ReelflowError as error:
        return Check("weights", "fault", "none", error.message)
    advice = " ".join(f"No {stage}: {error.message}" for stage, error in missing.items())
    if not found:
        return Check("weights", "note", "none for real media (the demo needs none)", advice)
    names = ", ".join(f"{stage}: {model.name}" for stage, model in found.items())
    return Check("weights", "note" if missing else "ok", names, advice)
