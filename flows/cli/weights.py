"""The `models` command: which weights are here, and how to get others."""

from __future__ import annotations

from flows.cli.console import say
from tasks.core.models import weights
from tasks.settings import settings


def show_models() -> None:
    """One line per weights file: kind, name, size, digest, where."""
    here = settings()
    say(f"{'kind':<8} {'name':<24} {'MB':>8}  {'sha256':<16}  where")
    for row in weights.list_models(here.models):
        mark = "  (demonstration only)" if row.bundled else ""
        say(f"{row.kind:<8} {row.name:<24} {row.bytes / 1e6:>8.1f}  {row.digest[:16]}  {row.where}{mark}")
    if here.models and not here.models.is_dir():
        say(
            f"REELFLOW_MODELS_DIR names {here.models}: there is no such folder; `models fetch NAME` makes it.",
            style="yellow",
        )
    if here.models is None:
        say("REELFLOW_MODELS_DIR is not set; `python -m flows models fetch NAME` downloads into the libraries' caches.")


def fetch_weights(name: str) -> None:
    """Downloads one model and says where it is."""
    say(f"fetching {name} ...", err=True)
    got = weights.fetch_weights(name, settings().models)
    say(f"{got.path}  sha256 {got.info.digest}")
