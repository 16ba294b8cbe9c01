"""Everything that can go wrong, as one tree: whose fault it is decides what happens.

    ReelflowError
    ├── PermanentError            the source's: never retried, quarantined under `code`
    │   ├── SourceNotFound        not_found          no such file, key or bucket
    │   ├── PermissionDenied      permission_denied  credentials are missing or refused
    │   ├── UnreadableSource      unreadable         the disk fails at it, and not at the files beside it
    │   ├── UnsupportedSource     unsupported_source a folder, a device, a scheme we do not read
    │   ├── NotAllowed            not_allowed        a parameter with credentials, or outside what deployments may name
    │   ├── EmptySource           empty              zero bytes
    │   ├── NotMedia              not_media          text, an archive, an image, subtitles only
    │   ├── ForbiddenFormat       forbidden_format   a playlist or script that names other files
    │   ├── CorruptMedia          corrupt            a container that cannot be opened or decoded
    │   │   └── CutShort          cut_short          it ends before anything of it can be decoded
    │   ├── TooShort              too_short          no playing time, or next to none
    │   ├── EncryptedMedia        encrypted          encryption or DRM
    │   ├── UnsupportedCodec      unsupported_codec  no decoder for a stream that is needed
    │   ├── LimitExceeded         limit_exceeded     bytes, duration, pixels or streams
    │   ├── Unprocessable         unprocessable      a tool fails on it, and not on a good file
    │   └── OptionError           bad_option         an option that does not fit this media
    ├── DamagedArtifact           damaged_artifact   what a stage left in the store cannot be read: it is made again
    ├── TransientError            nobody's: retried with backoff and jitter
    │   ├── NetworkError          network            timeout, reset, 5xx
    │   ├── Throttled             throttled          429, SlowDown
    │   ├── WorkerLost            worker_lost        a Dask worker died under the task
    │   ├── SourceChanged         source_changed     other bytes than a moment ago: it is read anew
    │   └── StoreConflict         store_conflict     another run committed first; read and try again
    └── SetupError                the host's: nothing is quarantined, and a batch stops
        ├── ModelNotFound         model_not_found    weights that cannot be had here
        ├── BadModel              bad_model          weights that are damaged, unsafe to load or of another kind
        ├── BadTextBank           bad_text_bank      a bank of tags that is missing or no bank
        ├── NoWorker              no_worker          no Dask worker offers what a task needs
        ├── StoreUnavailable      store_unavailable  the store, the host's cache or the disk of the sources fails
        ├── CredentialsRefused    credentials        credentials for sources are missing, wrong or expired
        └── ToolFailed            tool_failed        ffmpeg or a library failed, on a good file as well

A ToolFailed that comes from a stage's own work is not yet judged: tasks/stages/canary.py makes it Unprocessable where
the same stage does well on a good file.
A message says what happened to which media and what to do next.
"""

from __future__ import annotations


class ReelflowError(Exception):
    """Base of all. `code` is stable and machine readable; `detail` holds the output of the tool that failed."""

    code = "error"

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.detail))


def _rebuild(kind: type[ReelflowError], message: str, detail: str) -> ReelflowError:
    return kind(message, detail=detail)


class PermanentError(ReelflowError):
    """The same input fails the same way for ever."""

    code = "permanent"


class SourceNotFound(PermanentError):
    code = "not_found"


class PermissionDenied(PermanentError):
    code = "permission_denied"


class UnreadableSource(PermanentError):
    code = "unreadable"


class UnsupportedSource(PermanentError):
    code = "unsupported_source"


class NotAllowed(PermanentError):
    code = "not_allowed"


class EmptySource(PermanentError):
    code = "empty"


class NotMedia(PermanentError):
    code = "not_media"


class ForbiddenFormat(PermanentError):
    code = "forbidden_format"


class CorruptMedia(PermanentError):
    code = "corrupt"


class CutShort(CorruptMedia):
    code = "cut_short"


class TooShort(PermanentError):
    code = "too_short"


class EncryptedMedia(PermanentError):
    code = "encrypted"


class UnsupportedCodec(PermanentError):
    code = "unsupported_codec"


class LimitExceeded(PermanentError):
    code = "limit_exceeded"


class Unprocessable(PermanentError):
    code = "unprocessable"


class OptionError(PermanentError):
    code = "bad_option"


class DamagedArtifact(ReelflowError):
    """Something that a stage left in the store is missing or damaged; it has been taken away, or is to be."""

    code = "damaged_artifact"


class TransientError(ReelflowError):
    """Worth another try."""

    code = "transient"


class NetworkError(TransientError):
    code = "network"


class Throttled(TransientError):
    code = "throttled"


class WorkerLost(TransientError):
    code = "worker_lost"


class SourceChanged(TransientError):
    code = "source_changed"


class StoreConflict(TransientError):
    code = "store_conflict"


class SetupError(ReelflowError):
    """Nothing is wrong with the media; someone has to mend the installation."""

    code = "setup"


class ModelNotFound(SetupError):
    code = "model_not_found"


class BadModel(SetupError):
    code = "bad_model"


class NoWorker(SetupError):
    code = "no_worker"


class StoreUnavailable(SetupError):
    code = "store_unavailable"


class CredentialsRefused(SetupError):
    code = "credentials"


class BadTextBank(SetupError):
    code = "bad_text_bank"


class ToolFailed(SetupError):
    code = "tool_failed"
