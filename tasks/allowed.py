"""What a run of a deployment may name: sources, stores and files of this host inside configured roots, nothing else.

Whoever may start runs of a deployment is not its owner, and reads what a run reports. A command is run by someone who
may read all of it anyway, and stays free. Links and `..` are followed before anything is compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tasks.core import text_bank
from tasks.core.errors import NotAllowed, UnsupportedSource
from tasks.core.fetch import local_path
from tasks.core.models.siglip_weights import REPOSITORY
from tasks.core.options import FILES, AnalyzeOptions
from tasks.core.source_names import carries_credentials, display_source, named_secret
from tasks.settings import settings
from tasks.store import BLOCK, open_store

INBOX = "inbox"
"""Folder beside a store in a folder that is read from unless REELFLOW_ALLOWED_SOURCES says otherwise."""

NO_CREDENTIALS = (
    "It holds a user, a password, a query or a fragment, and Prefect keeps the parameters of a run for ever. Save the "
    "whole address as a Secret block of Prefect, or as REELFLOW_SECRET_NAME where flows and workers run, and give "
    "secret://NAME or ADDRESS#secret=NAME."
)

_PORTS = {"http": 80, "https": 443}


class _Place(NamedTuple):
    """A source, a store or a root in parts that can be compared."""

    scheme: str
    authority: str
    """Bucket, or host with port; empty: any."""
    path: str
    """Without a slash at either end; empty: all of it. A real path for `file`."""


def check_credentials(named: str) -> None:
    """Raises NotAllowed for what may carry credentials: say what it is, it is in Prefect's database by now."""
    if carries_credentials(named):
        raise NotAllowed(f"{display_source(named)}: {NO_CREDENTIALS} Change these credentials: they are stored now.")


def check_source(source: str) -> None:
    """Raises NotAllowed for a source or prefix outside REELFLOW_ALLOWED_SOURCES."""
    here = settings()
    roots = here.allowed_sources.split() or _beside(here.store)
    if not _is_within(source, roots):
        raise NotAllowed(
            f"{display_source(source)}: runs of deployments may not read there, only {_listed(roots)}. Whoever runs "
            "the workers can add it to REELFLOW_ALLOWED_SOURCES; `python -m flows analyze` reads what you may read."
        )


def check_store(store: str) -> None:
    """Raises NotAllowed for a store outside REELFLOW_ALLOWED_STORES."""
    here = settings()
    roots = here.allowed_stores.split() or _beside(here.store)[:1]
    if store == here.store or store in roots or (not store.startswith(BLOCK) and _is_within(store, roots)):
        return
    raise NotAllowed(
        f"{display_source(store)}: runs of deployments may not write there, only {_listed(roots)}. Whoever runs the "
        "workers can add it to REELFLOW_ALLOWED_STORES."
    )


def check_options(options: AnalyzeOptions) -> None:
    """Raises NotAllowed for an option with the path of a file outside the models folder and its text banks."""
    models = settings().models
    for section, field in FILES:
        option, name = f"{section}.{field}", getattr(getattr(options, section), field)
        roots = [root for root in (models, text_bank.SHIPPED if option == "tags.bank" else None) if root]
        if option == "embeddings.model" and REPOSITORY.fullmatch(name):
            continue  # google/siglip-base-patch16-224 is no path
        if is_path(name) and not _is_below(name, roots):
            raise NotAllowed(
                f"{option}={name}: runs of deployments name files of the models folder only (REELFLOW_MODELS_DIR where "
                "they run): a name such as yolo11n.pt, or an absolute path in that folder."
            )


def is_path(name: str) -> bool:
    """Is it the path of a file rather than the name of a model or bank?"""
    return os.sep in name or name.startswith((".", "~")) or "\0" in name


def _is_below(name: str, roots: Iterable[Path]) -> bool:
    if not Path(name).is_absolute() or "\0" in name:
        return False
    real = Path(os.path.realpath(name))
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)


def _beside(store: str) -> list[str]:
    """The bucket of a store; or its folder, and the inbox beside it."""
    root = open_store(store).root
    if root.startswith("s3://"):
        return [f"s3://{root.removeprefix('s3://').partition('/')[0]}/"]
    folder = Path(local_path(root))
    return [str(folder), str(folder.with_name(INBOX))]


def _is_within(named: str, roots: Iterable[str]) -> bool:
    place = _place(named)
    return place is not None and any(_holds(_place(root), place) for root in roots)


def _holds(root: _Place | None, place: _Place) -> bool:
    return (
        root is not None
        and root.scheme == place.scheme
        and root.authority in ("", place.authority)
        and (not root.path or place.path == root.path or place.path.startswith(f"{root.path}/"))
    )


def _place(named: str) -> _Place | None:
    """None for what cannot be compared: it is within nothing."""
    if named == "secret://":
        return _Place("secret", "", "")
    if found := named_secret(named):
        name, address = found
        if address is None:
            return _Place("secret", name, "")
        named = address
    scheme, separator, rest = named.partition("://")
    scheme = scheme.lower()
    try:
        if not separator or scheme == "file":
            return _local(named)
        if scheme == "s3":
            authority, _, path = rest.partition("/")
        else:
            parts = urlsplit(named)
            port = parts.port or _PORTS.get(scheme)
            authority = f"{parts.hostname.rstrip('.')}:{port}" if parts.hostname else ""
            path = unquote(parts.path)
    except (UnsupportedSource, ValueError):
        return None
    if {".", ".."} & set(path.replace("\\", "/").split("/")):
        return None  # a server may follow them, and out of the root
    return _Place(scheme, authority, path.strip("/"))


def _local(named: str) -> _Place | None:
    text = local_path(named) if "://" in named else named
    if text.startswith("~") or "\0" in text:
        return None
    return _Place("file", "", os.path.realpath(text).strip("/"))


def _listed(roots: Iterable[str]) -> str:
    return ", ".join(map(display_source, roots))
