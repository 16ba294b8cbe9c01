"""From an event to the object that is there now: the store is asked, because events repeat, overtake and are late."""

from __future__ import annotations

from tasks.core.events.notification import ObjectEvent
from tasks.core.listing import Listed, find_listed
from tasks.core.s3 import S3Options


def keys_below(event: ObjectEvent, prefix: str) -> list[str]:
    """The keys that an event may mean, those below `s3://bucket/prefix`."""
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    return [key for key in event.keys if key.startswith(start)] if event.bucket == bucket else []


def locate(event: ObjectEvent, prefix: str, options: S3Options) -> Listed | None:
    """The present version of the event's object, as a listing of the prefix would give it; None where it is gone.

    A key that is encoded and one that is not may both name an object: the one with the event's ETag is meant, else the
    likelier. Raises PermissionDenied, CredentialsRefused; NetworkError, Throttled.
    """
    likeliest: Listed | None = None
    for key in keys_below(event, prefix):
        found = find_listed(prefix, key, options)
        if found is not None and (event.etag is None or found.version.strip('"') == event.etag):
            return found
        likeliest = likeliest or found
    return likeliest
