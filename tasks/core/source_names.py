"""What may be shown, stored and logged of a source's name: everything but its secrets and control characters."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from tasks.core.redaction import redact

MOST_LETTERS = 60
"""Of a short name."""

_SIGNED = re.compile(
    r"\?(?=.*\b(x-amz-|x-goog-|awsaccess|signature|sig|token|access_|api_?key|password|secret)[\w-]*=)",
    re.IGNORECASE | re.DOTALL,
)
_USER = re.compile(r"^(https?:/?|//)[^/?#@]*@", re.IGNORECASE)
"""What is meant as a URL and lacks some of its first letters is taken for a path; its secrets are secrets still."""
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*:/+[^\s'\"<>]*[^\s'\"<>:;,.]")

_NAME = "[a-z0-9][a-z0-9-]{0,62}"
"""Of a secret: what Prefect takes as the name of a block."""
_WHOLE = re.compile(rf"secret://({_NAME})")
_LIKE_WHOLE = re.compile(r"secret://[A-Za-z0-9-]{1,63}")
WEB = "(?!(?:[sS]3|[fF][iI][lL][eE]):)[A-Za-z][A-Za-z0-9+.-]+:/+"
"""Beginning of an address that may carry credentials; names of files and of objects hold any character."""
_BOUND = re.compile(rf"({WEB}[^#]*)#secret=({_NAME})")

CREDENTIALS = rf"^{WEB}(?:[^/?#]*@|[^?#]*\?|[^#]*#(?!secret={_NAME}$))|^(?:[sS]3:)?//[^/?#]*@"
"""Pattern, also for a JSON schema, of sources that may carry credentials: of a user, in a query or in a fragment."""
_CREDENTIALS = re.compile(CREDENTIALS)


def carries_credentials(source: str) -> bool:
    """May this let someone in who only sees it? Then it is no name, and no parameter of a run, which Prefect keeps."""
    return _CREDENTIALS.search(source) is not None


def named_secret(source: str) -> tuple[str, str | None] | None:
    """Name of the secret that a source lies in, and the address that it must be of; None for any other source.

    `secret://NAME`: the secret is the address. `ADDRESS#secret=NAME`: it is this address, or the one of a folder above
    it, with credentials.
    """
    if whole := _WHOLE.fullmatch(source):
        return whole[1], None
    if bound := _BOUND.fullmatch(source):
        return bound[2], bound[1]
    return None


def display_source(source: str) -> str:
    """A source as it may be shown and stored: no user, password, query or fragment of a URL, no control characters.

    Secrets are shown by name: secret://NAME, and of ADDRESS#secret=NAME the address.
    """
    if _LIKE_WHOLE.fullmatch(source):
        return source
    if (bound := _BOUND.fullmatch(source)) and bound[1].isprintable() and not carries_credentials(bound[1]):
        return bound[1]
    scheme = source.partition("://")[0].lower()
    if scheme in ("http", "https"):
        try:
            parts = urlsplit(source)
            host = parts.netloc.rpartition("@")[2]
            source = urlunsplit((parts.scheme, host, parts.path, "", ""))
        except ValueError:
            source = f"{scheme}://(no valid address)"
    elif scheme == "s3" and "://" in source:
        bucket, slash, key = source.partition("://")[2].partition("/")
        source = f"{scheme}://{hide_credentials(bucket)}{slash}{key}"
    elif "://" in source and scheme != "file":
        source = f"{scheme}://..."
    if scheme not in ("http", "https"):
        source = _USER.sub(r"\1", _SIGNED.split(source, maxsplit=1)[0])
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in source)


def hide_secrets(text: str) -> str:
    """A text of ours or of a library with each URL in it as display_source shows it, and without any known secret."""
    return _URL.sub(lambda found: display_source(found[0]), redact(text))


def short_name(source: str) -> str:
    """Last part of a source as a name for a run: printable, at most 60 characters, no secrets."""
    return display_source(source).rstrip("/").rsplit("/", 1)[-1][:MOST_LETTERS] or "?"


def hide_credentials(bucket: str) -> str:
    """A bucket's name as it may be shown: without what stands before an @, as in s3://key:secret@bucket."""
    return re.sub(r"^.*@", "", bucket)
