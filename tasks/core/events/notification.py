"""What a store's notification says: S3 by itself, by SNS or EventBridge, MinIO, RustFS, SeaweedFS, Ceph, CloudEvents.

One message becomes any number of ObjectEvents. What is no event is counted (tests, deletions) or handed back as a Fault
with its reason, so that one bad record never spoils the others. Nothing here raises, whatever the bytes are.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

MOST_BYTES: Final = 2**20
"""Of one message; S3 writes up to 64 KB, SQS carries up to 1 MiB."""

MOST_RECORDS: Final = 1000
MOST_KEY_BYTES: Final = 1024
"""S3's own bound for a key."""

MOST_ENVELOPES: Final = 4
"""Messages within messages: SNS in SQS in a dump of a dead-letter queue, with room to spare."""

_CREATED: Final = ("ObjectCreated", "ObjectRestore:Completed")
"""After either the object can be read: an archived one is written again when it is restored."""

_UNCARRIED: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What SQS refuses in a body."""

_SEAWEED_ROOT: Final = "/buckets/"
_SEAWEED_PARTS: Final = ".uploads/"
"""Where SeaweedFS keeps the parts of multipart uploads, within the bucket."""


class ObjectEvent(NamedTuple):
    """An object was written, says a notification; whether it is there, only the store knows."""

    bucket: str
    keys: tuple[str, ...]
    """What the key may be, likeliest first: most stores encode it as in a form, some do not."""
    size: int | None
    etag: str | None
    """Without quotes."""
    version: str | None
    """The store's own id of this version."""
    order: str | None
    """Orders events of one key; see is_older."""
    time: datetime | None
    """When the store says that it was written (UTC)."""
    origin: str
    """Who wrote the notification: aws:s3, minio:s3, eventbridge ..."""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.keys[0]}"


class Fault(NamedTuple):
    """What is no event, and why; a dead letter."""

    reason: str
    body: str


@dataclass
class Notification:
    """What one message holds."""

    events: list[ObjectEvent] = field(default_factory=list)
    tests: int = 0
    """Messages that a store sends to try the way out."""
    other: int = 0
    """Events that are about no new object: deletions, tags, reads."""
    faults: list[Fault] = field(default_factory=list)


class _Wrong(Exception):
    """Why a record is no event."""


def parse(body: str | bytes) -> Notification:
    """Reads a message's body; see Notification."""
    found = Notification()
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        found.faults.append(_fault("not UTF-8", body.decode(errors="replace") if isinstance(body, bytes) else body))
        return found
    _read(text, found, 0)
    return found


def is_older(order: str | None, than: str | None) -> bool:
    """Is an event older than another one of the same key?  Sequencers are text, padded on the right to one length."""
    if not order or not than:
        return False
    length = max(len(order), len(than))
    return order.upper().ljust(length, "0") < than.upper().ljust(length, "0")


def _read(text: str, found: Notification, depth: int) -> None:
    if len(text.encode(errors="surrogatepass")) > MOST_BYTES:
        found.faults.append(_fault(f"more than {MOST_BYTES} bytes", text[: MOST_BYTES // 4]))
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        found.faults.append(_fault("not JSON", text))
        return
    _take(value, found, depth)


def _fault(reason: str, text: str) -> Fault:
    """With a body that a queue and a JSON file can carry."""
    return Fault(reason, _UNCARRIED.sub(lambda c: c[0].encode("unicode_escape", "surrogatepass").decode(), text))


def _take(value: Any, found: Notification, depth: int) -> None:
    try:
        _open(value, found, depth)
    except _Wrong as wrong:
        found.faults.append(_fault(str(wrong), _text(value)))


def _open(value: Any, found: Notification, depth: int) -> None:
    """Takes one envelope or record apart. Raises _Wrong where it is none that we know."""
    if depth > MOST_ENVELOPES:
        raise _Wrong("too many messages within messages")
    if not isinstance(value, dict):
        raise _Wrong(f"a JSON {type(value).__name__} where an object is expected")
    records = value.get("Records", value.get("records"))
    if isinstance(value.get("Event"), str) and value["Event"].endswith(":TestEvent"):
        found.tests += 1
    elif isinstance(records, list):
        if len(records) > MOST_RECORDS:
            raise _Wrong(f"more than {MOST_RECORDS} records in one message")
        found.tests += not records
        for record in records:
            _take(record, found, depth + 1)
    elif "s3" in value:
        _s3(value, found)
    elif value.get("Type") == "Notification" and isinstance(value.get("Message"), str):
        _read(value["Message"], found, depth + 1)
    elif value.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        raise _Wrong("SNS asks for a confirmation, which is not given by itself: confirm the subscription in SNS")
    elif isinstance(value.get("Sns"), dict):
        _take(value["Sns"] | {"Type": "Notification"}, found, depth + 1)
    elif isinstance(value.get("body"), str) and "receiptHandle" in value:
        _read(value["body"], found, depth + 1)
    elif "detail-type" in value:
        _eventbridge(value, found)
    elif "specversion" in value:
        _cloud_event(value, found, depth)
    elif "event_type" in value and "message" in value:
        _seaweed(value, found)
    else:
        raise _Wrong("no notification of a store that is known")


def _s3(record: dict[str, Any], found: Notification) -> None:
    name = record.get("eventName", record.get("event_name"))
    if not isinstance(name, str):
        raise _Wrong("a record without eventName")
    if not name.removeprefix("s3:").startswith(_CREATED):
        found.other += 1
        return
    section = _dict(record, "s3")
    origin = record.get("eventSource")
    found.events.append(
        _event(section, record.get("eventTime"), origin if isinstance(origin, str) else "s3", encoded=True)
    )


def _eventbridge(value: dict[str, Any], found: Notification) -> None:
    kind = value["detail-type"]
    if kind not in ("Object Created", "Object Restore Completed"):
        if isinstance(kind, str) and kind.startswith("Object ") and value.get("source") == "aws.s3":
            found.other += 1
            return
        raise _Wrong("an EventBridge event that is not of S3 objects")
    found.events.append(_event(_dict(value, "detail"), value.get("time"), "eventbridge", encoded=False))


def _cloud_event(value: dict[str, Any], found: Notification, depth: int) -> None:
    """A CloudEvents envelope: its data are a whole message, one record, or the record's own section."""
    data, kind = value.get("data"), value.get("type")
    if isinstance(data, str):
        _read(data, found, depth + 1)
    elif not isinstance(data, dict):
        raise _Wrong("a CloudEvent without data")
    elif "bucket" in data and "object" in data and isinstance(kind, str):
        name = kind.rpartition("s3.")[2].rpartition("s3:")[2]
        if "created" not in name.lower().replace("-", ""):
            found.other += 1
            return
        found.events.append(_event(data, value.get("time"), "cloudevents", encoded=True))
    else:
        _take(data, found, depth + 1)


def _seaweed(value: dict[str, Any], found: Notification) -> None:
    """SeaweedFS tells of files in its filer; buckets are folders in /buckets."""
    path, message = value.get("key"), _dict(value, "message")
    entry = message.get("new_entry")
    if value["event_type"] == "delete" or not isinstance(entry, dict) or entry.get("is_directory"):
        found.other += 1
        return
    if value["event_type"] == "rename":
        path = f"{message.get('new_parent_path')}/{entry.get('name')}"
    if not isinstance(path, str) or not path.startswith(_SEAWEED_ROOT):
        raise _Wrong("a file of SeaweedFS that is in no bucket")
    bucket, _, key = path[len(_SEAWEED_ROOT) :].partition("/")
    if key.startswith(_SEAWEED_PARTS):
        found.other += 1
        return
    attributes = entry.get("attributes")
    size = attributes.get("file_size") if isinstance(attributes, dict) else None
    written = {"bucket": {"name": bucket}, "object": {"key": key, "size": size}}
    found.events.append(_event(written, None, "seaweedfs", encoded=False))


def _event(section: dict[str, Any], time: Any, origin: str, *, encoded: bool) -> ObjectEvent:
    bucket, written = _dict(section, "bucket").get("name"), _dict(section, "object")
    key, size = written.get("key"), written.get("size")
    if not isinstance(bucket, str) or not bucket:
        raise _Wrong("a record without the name of a bucket")
    if not isinstance(key, str) or not key:
        raise _Wrong("a record without a key")
    keys = [other for other in dict.fromkeys(_keys(key, encoded=encoded)) if _can_be_key(other)]
    if not keys:
        raise _Wrong("a key that no object can have")
    return ObjectEvent(
        bucket=bucket,
        keys=tuple(keys),
        size=size if isinstance(size, int) and size >= 0 else None,
        etag=_short(written.get("eTag", written.get("etag"))),
        version=_short(written.get("versionId", written.get("version-id"))),
        order=_short(written.get("sequencer")),
        time=_time(time),
        origin=origin[:100],
    )


def _keys(key: str, *, encoded: bool) -> list[str]:
    try:
        decoded = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return [key]
    return [decoded, key] if encoded else [key, decoded]


def _can_be_key(key: str) -> bool:
    try:
        return 0 < len(key.encode()) <= MOST_KEY_BYTES
    except UnicodeEncodeError:
        return False


def _dict(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise _Wrong(f"a record without {name}")
    return found


def _short(value: Any) -> str | None:
    """A text that may be an id."""
    return value.strip('"') or None if isinstance(value, str) and len(value) <= MOST_KEY_BYTES else None


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "(nested too deeply)"
