"""Credentials of sources: a parameter names a secret, and whoever reads the source looks it up, where it reads.

Prefect keeps the parameters of every run, so an address with a password or a token is never one. `secret://NAME` and
`ADDRESS#secret=NAME` are; the secret is REELFLOW_SECRET_NAME of the process that reads, else a Secret block of that
name at the Prefect API. No text of ours or of a library shows it: see tasks/core/redaction.py.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
import time
from contextlib import suppress
from typing import Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from tasks.core import redaction
from tasks.core.errors import CredentialsRefused, NetworkError, ReelflowError
from tasks.core.source_names import WEB, carries_credentials, display_source, named_secret

RELOAD_S = 60
"""A worker lives for weeks: what a Secret block holds is asked for anew after this time."""

ARGUMENT = "argument-"
"""What the names of secrets begin with that a command has made of its own arguments."""

_loading = threading.Lock()


def variable(name: str) -> str:
    """The environment variable of a secret: REELFLOW_SECRET_GATE_CAMERA of gate-camera."""
    return f"REELFLOW_SECRET_{name.upper().replace('-', '_')}"


def resolve(source: str) -> str:
    """The address to read: the source itself, or what the secret that it names holds. Never show or store it.

    Raises CredentialsRefused where there is no such secret, or one of another address; NetworkError.
    """
    found = named_secret(source)
    if found is None:
        return source
    name, address = found
    value = _value(name)
    if address is None:
        redaction.learn(value, source)
        redaction.learn(_bare(value), source)  # even the path may be the secret
        return value
    redaction.learn(value, address)
    return _placed(value, address, name)


def at_hand(source: str) -> bool:
    """Can the source be read without asking the Prefect API for a secret?"""
    found = named_secret(source)
    return found is None or variable(found[0]) in os.environ


def hold(source: str) -> str:
    """The source as a parameter may have it: its credentials stay in the environment of this process and its children.

    For the arguments of a command. The name is made of the address by a slow digest, so that the same address is the
    same source, and nobody finds a password by trying.
    """
    if not carries_credentials(source):
        return source
    address = display_source(source)
    if named_secret(f"{address}#secret=x") is None:
        return source  # no address of anything: whoever reads it says so
    salt, text = address.encode(errors="replace"), source.encode(errors="replace")
    name = ARGUMENT + hashlib.scrypt(text, salt=salt, n=2**14, r=8, p=1, dklen=8).hex()
    os.environ[variable(name)] = source
    return f"{address}#secret={name}"


def is_held(source: str) -> bool:
    """Do its credentials stay with the command that was given them? See hold."""
    found = named_secret(source)
    return found is not None and found[0].startswith(ARGUMENT)


def _value(name: str) -> str:
    value = os.environ.get(variable(name)) or _stored(name)
    if re.match(WEB, value) is None:
        raise CredentialsRefused(
            f"The secret {name} holds no address of a server; save one such as https://user:password@host/path."
        )
    return value


def _placed(value: str, address: str, name: str) -> str:
    """The address with the credentials of the secret, which must be of the same address, or of a folder above it."""
    if display_source(value) == address:
        return value
    known = _bare(value)
    if known == address:
        return value
    with suppress(ValueError):
        given, asked = urlsplit(value), urlsplit(address)
        above = known.rstrip("/") + "/"
        if address.startswith(above) and not {".", ".."} & set(unquote(asked.path).replace("\\", "/").split("/")):
            return urlunsplit((given.scheme, given.netloc, asked.path, given.query, ""))
    raise CredentialsRefused(
        f"The secret {name} is of another address than {address}, so it is not sent there; correct one of them."
    )


def _bare(address: str) -> str:
    """Without user, password, query and fragment."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _stored(name: str) -> str:
    """What the Secret block at the Prefect API holds."""
    with _loading:
        return _load(name, int(time.monotonic() // RELOAD_S))


@functools.lru_cache(maxsize=64)
def _load(name: str, _period: int) -> str:
    from prefect.blocks.system import Secret
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    failure: ReelflowError = CredentialsRefused(
        f"There is no secret {name}: set {variable(name)} where flows and workers run, or save a Secret block of that "
        "name at the Prefect API; it holds the whole address, such as https://user:password@host/path."
    )
    try:
        # Without an API, Prefect would start a server of its own to look into.
        found = cast(Any, Secret).load(name, _sync=True).get() if PREFECT_API_URL.value() else None
        if isinstance(found, str):
            return found
    except PrefectHTTPStatusError as error:
        failure = NetworkError(
            f"The Prefect API answers {error.response.status_code} when asked for the secret {name}; it is tried again."
        )
    except (httpx.HTTPError, RuntimeError, OSError) as error:
        failure = NetworkError(
            f"The Prefect API cannot be reached ({type(error).__name__}), so the secret {name} cannot be loaded; check "
            "PREFECT_API_URL."
        )
    except ValueError:
        pass
    raise failure from None
