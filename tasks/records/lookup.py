"""What the store and this host can answer about a source without running a pipeline, a server or a cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tasks import credentials
from tasks.core import fetch, text_bank
from tasks.core.errors import (
    EmptySource,
    LimitExceeded,
    ModelNotFound,
    PermanentError,
    ReelflowError,
    SourceChanged,
    TransientError,
)
from tasks.core.models import weights
from tasks.core.models.siglip_weights import resolve_siglip
from tasks.core.models.weights_file import WeightsFile, has_gpu
from tasks.core.options import AnalyzeOptions, DetectionOptions, LimitOptions
from tasks.core.schema import AnalyzeReport, MediaRef, ModelInfo
from tasks.core.source_names import hide_secrets
from tasks.records.results import forget_name, quarantine, result_key, result_path, views_are_fresh, whole_result
from tasks.settings import Settings, settings
from tasks.store import open_store

_LEFT_OUT: Final = (
    "No {stage}: there were no {kind} weights where this was analysed; `python -m flows doctor` says there how to get "
    "them."
)
_KINDS: Final = {"transcript": "Whisper", "detections": "YOLO", "embeddings": "SigLIP"}


def fetch_source(source: str, store: str, limits: LimitOptions) -> MediaRef:
    """The source's bytes in this host's cache, and the digest that names them."""
    fetched = _fetch(source, limits)
    return MediaRef(media_id=fetched.media_id, source=source, bytes=fetched.bytes, store=store, version=fetched.version)


@contextmanager
def source_file(media: MediaRef) -> Iterator[Path]:
    """A local file with the media's bytes, from this host's cache or fetched again; kept while the block reads it.

    Raises SourceChanged when the source has other bytes than the media, now or at the end of the block: what was made
    of it, or why nothing could be, then says nothing of this media.
    """
    changed = SourceChanged(
        f"{fetch.display_source(media.source)} has changed while it was analysed; it is analysed anew."
    )
    try:
        again = _fetch(media.source, LimitOptions(max_bytes=max(1, media.bytes)))
    except (LimitExceeded, EmptySource):
        raise changed from None
    if again.media_id != media.media_id:
        raise changed
    with fetch.hold(again.path):
        try:
            yield again.path
        except Exception as error:
            if not fetch.is_unchanged(again):
                raise changed from error
            raise
    if not fetch.is_unchanged(again):
        raise changed


def _fetch(source: str, limits: LimitOptions) -> fetch.Fetched:
    here = settings()
    address = credentials.resolve(source)
    try:
        return fetch.fetch(
            address, here.cache, limits, here.cache_bytes, allow_private_hosts=here.allow_private_hosts, s3=here.s3
        )
    except ReelflowError as error:
        raise type(error)(hide_secrets(error.message), detail=hide_secrets(error.detail)) from None
    except Exception as error:
        if hide_secrets(str(error)) == str(error):
            raise
        raise unexpected(error) from None


def find_models(options: AnalyzeOptions) -> tuple[dict[str, ModelInfo], list[str]]:
    """The models of the stages that are enabled, and a notice for each stage that is left out for want of weights.

    A model that was named and is missing raises ModelNotFound. A stage left at `auto` for which this host has no
    weights is left out, with a notice; when that leaves no stage at all, ModelNotFound is raised.
    """
    found, missing = look_for_models(options)
    if missing and not found:
        raise next(iter(missing.values()))
    return found, [_LEFT_OUT.format(stage=stage, kind=_KINDS[stage]) for stage in missing]


def look_for_models(options: AnalyzeOptions) -> tuple[dict[str, ModelInfo], dict[str, ModelNotFound]]:
    """The models of the stages that are enabled, and for each stage at `auto` without weights where they were sought.

    Raises ModelNotFound for a model that was named and is missing, and where REELFLOW_MODELS_DIR names no folder.
    """
    here = settings()
    said, seen, shown = options.transcript, options.detections, options.embeddings
    wanted: dict[str, tuple[bool, str, Callable[[], ModelInfo]]] = {
        "transcript": (
            said.enabled,
            said.model,
            lambda: weights.resolve_whisper(said.model, here.models, here.download, language=said.language).info,
        ),
        "detections": (seen.enabled, seen.weights, lambda: _detector(seen, here)),
        "embeddings": (
            shown.enabled,
            shown.model,
            lambda: resolve_siglip(shown.model, here.models, here.download).info,
        ),
    }
    if here.models and not here.models.is_dir() and any(on and name != "bundled" for on, name, _ in wanted.values()):
        raise ModelNotFound(
            f"REELFLOW_MODELS_DIR names {here.models}: there is no such folder. Correct it, or make the folder with: "
            "python -m flows models fetch base.en"
        )
    found: dict[str, ModelInfo] = {}
    missing: dict[str, ModelNotFound] = {}
    for stage, (enabled, name, resolve) in wanted.items():
        if not enabled:
            continue
        try:
            found[stage] = resolve()
        except ModelNotFound as error:
            if name != "auto":
                raise
            missing[stage] = error
    if "embeddings" in found:
        found["tags"] = _text_bank(options.tags.bank, here, bundled=found["embeddings"].bundled)
    return found, missing


def same_weights(file: WeightsFile, model: ModelInfo) -> Path:
    """The file's path. Raises ModelNotFound where this host's weights are not those that the run began with."""
    if file.info.digest != model.digest:
        raise ModelNotFound(
            f"{file.path} is not the {model.name} that this run began with (sha256 {file.info.digest[:12]} instead of "
            f"{model.digest[:12]}); give every worker the same files in REELFLOW_MODELS_DIR."
        )
    return file.path


def _text_bank(name: str, here: Settings, *, bundled: bool) -> ModelInfo:
    bank = text_bank.read_bank(text_bank.resolve_bank(name, here.models, bundled=bundled))
    return ModelInfo(name=bank.name, digest=bank.digest, backend="texts")


def _detector(options: DetectionOptions, here: Settings) -> ModelInfo:
    from tasks.core.models.yolo import choose_backend

    info = weights.resolve_yolo(options.weights, here.models, here.download).info
    device = options.device if options.device != "auto" else "cuda" if has_gpu() else "cpu"
    return info.model_copy(update={"backend": choose_backend(options.backend, device)})


def answer(source: str, store: str, options: AnalyzeOptions) -> AnalyzeReport | None:
    """The report of a source that is analysed already or cannot be; None where that takes work, or the Prefect API."""
    started = time.monotonic()
    root = open_store(store)
    found: MediaRef | None = None
    if not credentials.at_hand(source):
        return None
    try:
        found = fetch_source(source, root.address, options.limits)
        models, _ = find_models(options)
        done = whole_result(root, found.media_id, result_key(found.media_id, options, models))
        if done is None or not views_are_fresh(root, done):
            return None
    except PermanentError as error:
        return quarantined(source, store, found, error, started)
    except TransientError:
        return None
    forget_name(root, source)
    return AnalyzeReport(
        source=fetch.display_source(source),
        media_id=found.media_id,
        status="cached",
        result=root.uri(result_path(found.media_id)),
        seconds=round(time.monotonic() - started, 3),
        cached=True,
    )


def failed(source: str, error: ReelflowError, started: float) -> AnalyzeReport:
    """The report of a source that failed for no fault of its own. `started` is of time.monotonic."""
    return AnalyzeReport(
        source=fetch.display_source(source),
        media_id=None,
        status="failed",
        result=None,
        seconds=round(time.monotonic() - started, 3),
        cached=False,
        error={"code": error.code, "message": hide_secrets(error.message)},
    )


def unexpected(error: Exception) -> ReelflowError:
    """An error that nobody foresaw, as a sentence for a person."""
    logging.getLogger("reelflow").debug("unexpected failure", exc_info=error)
    return ReelflowError(
        f"Unexpected {type(error).__name__}: {hide_secrets(str(error))}. REELFLOW_DEBUG=1 prints the traceback; "
        "please report it."
    )


def quarantined(source: str, store: str, found: MediaRef | None, error: ReelflowError, started: float) -> AnalyzeReport:
    """Sets the source aside and says so. `started` is of time.monotonic."""
    record = quarantine(open_store(store), source, found, error)
    return _set_aside(record.source, record.media_id, record.code, record.message, started)


def skipped(source: str, reason: PermanentError) -> AnalyzeReport:
    """The report of what a listing cannot give; the store keeps no record of it."""
    return _set_aside(fetch.display_source(source), None, reason.code, hide_secrets(reason.message), time.monotonic())


def _set_aside(shown: str, media_id: str | None, code: str, message: str, started: float) -> AnalyzeReport:
    return AnalyzeReport(
        source=shown,
        media_id=media_id,
        status="quarantined",
        result=None,
        seconds=round(time.monotonic() - started, 3),
        cached=False,
        error={"code": code, "message": message},
    )
