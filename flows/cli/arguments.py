"""What the commands of `python -m flows` have in common: arguments, and exit statuses."""

from __future__ import annotations

from typing import Annotated

import typer

EXIT_FAILED, EXIT_USAGE, EXIT_QUARANTINED, EXIT_INTERRUPTED = 1, 2, 3, 130

Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URI", help="Folder, file:///... or s3://bucket/prefix; default REELFLOW_STORE"),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option, for example frames.fps=2; `options` lists them all"),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per source on stdout, nothing else there")]
