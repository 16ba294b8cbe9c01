"""Names of files as a command line has them."""

from __future__ import annotations

import os
from pathlib import Path


def whole_path(name: str) -> str:
    """The whole path of a file or folder of this name, where there is one; else the name, which may be a model's.

    What a command names lies where it is typed: the process that reads it may be in another folder.
    """
    path = Path(name).expanduser()
    return str(path.absolute()) if name and os.path.exists(path) else name  # noqa: PTH110 - takes any text
