"""The version that deployments carry: the project's, and the commit of the checkout or image."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def current() -> dict[str, str]:
    """A build step of prefect.yaml: `{"version": "0.2.0+973d186"}`.

    An image has no git; it says REELFLOW_REVISION instead. Changes that are not committed end in `.dirty`.
    """
    number = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    revision = os.environ.get("REELFLOW_REVISION") or _git_revision()
    return {"version": f"{number}+{revision}" if revision else number}


def _git_revision() -> str | None:
    describe = ["git", "describe", "--always", "--exclude=*", "--dirty=.dirty"]
    try:
        done = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
