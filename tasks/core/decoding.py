"""Calls that read untrusted media, made in confined children of their own (sandbox/): one result or one error each.

Parsers and decoders of hostile media crash, hang and grow; here they take a child of some milliseconds with them, not a
worker, and nothing that is led astray in one has a key, a file to change or a network.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.core import errors
from tasks.core.errors import CorruptMedia, LimitExceeded, PermanentError, ToolFailed
from tasks.core.ffmpeg import TOO_LARGE, killed_for_memory, media_name, too_large
from tasks.core.sandbox.children import Bounds, run_module


def call(
    module: str,
    *arguments: str,
    media: Path,
    doing: str,
    bounds: Bounds,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    attachment: int | None = None,
) -> Any:
    """The JSON value that `main(*arguments)` of a module printed in a child that may read the media.

    `doing` says in messages what the child did.  Raises what was given to `answer`, LimitExceeded where a bound stopped
    the child or a frame was too large, CorruptMedia where it crashed, ToolFailed for anything else.
    """
    name = media_name(media)
    try:
        done = run_module(module, arguments, bounds, reads=[media, *reads], writes=writes, attachment=attachment)
    except OSError as error:
        raise ToolFailed(f"{name}: {doing}: no child process could be started ({error.strerror})") from error
    if done.exceeded:
        what = f"{doing} exceeded its {done.exceeded} bound ({bounds.wall_s:.0f} s)"
        raise LimitExceeded(f"{name}: {what}", detail=done.stderr)
    if killed_for_memory(done, bounds):
        raise LimitExceeded(
            f"{name}: {doing} was stopped at {done.peak_bytes / 2**30:.1f} GiB of memory", detail=done.stderr
        )
    if done.returncode < 0 and done.returncode != -signal.SIGKILL:
        raise CorruptMedia(f"{name}: the decoder crashed on it (signal {-done.returncode})", detail=done.stderr)
    if "MemoryError" in done.stderr:
        raise LimitExceeded(f"{name}: {doing} needs more memory than a media may use", detail=done.stderr)
    if TOO_LARGE.search(done.stderr):
        raise LimitExceeded(too_large(name), detail=done.stderr)
    if done.returncode:
        raise ToolFailed(f"{name}: PyAV failed (exit status {done.returncode})", detail=done.stderr)
    found = json.loads(done.stdout)
    if isinstance(found, dict) and "raised" in found:
        kind = _kinds().get(found["raised"], CorruptMedia)
        raise kind(str(found["message"]), detail=str(found["detail"]) or done.stderr)
    return found


def answer(work: Callable[[], Any]) -> None:
    """In the child: prints what the work gives, or which PermanentError it raises."""
    try:
        found = work()
    except PermanentError as error:
        found = {"raised": error.code, "message": error.message, "detail": error.detail}
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()


def _kinds() -> dict[str, type[PermanentError]]:
    return {kind.code: kind for kind in _below(errors.PermanentError)}


def _below(kind: type[PermanentError]) -> Iterator[type[PermanentError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
