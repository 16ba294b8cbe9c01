"""Every envelope that a store's event comes in, and everything that is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest

from tasks.core.events.notification import MOST_BYTES, MOST_RECORDS, ObjectEvent, is_older, parse

KEY = "recordings/camera=front door/a+b ü.mp4"
ENCODED = quote_plus(KEY, safe="/")
TIME = "2026-11-21T14:05:00.250Z"


def s3(key: str = ENCODED, name: str = "ObjectCreated:Put", **changes: Any) -> dict[str, Any]:
    written = {"key": key, "size": 10, "eTag": "e1", "versionId": "v1", "sequencer": "0055AED6DCD90281E5"}
    record = {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "eventName": name,
        "eventTime": TIME,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": "b"}, "object": written},
    }
    return record | changes


def sns(message: str) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:1:t", "Message": message, "Signature": "x"}


def eventbridge(kind: str = "Object Created") -> dict[str, Any]:
    written = {"key": KEY, "size": 10, "etag": "e1", "version-id": "v1", "sequencer": "0055AED6DCD90281E5"}
    detail = {"version": "0", "bucket": {"name": "b"}, "object": written, "reason": "PutObject"}
    return {"version": "0", "source": "aws.s3", "detail-type": kind, "time": TIME, "detail": detail}


def minio(source: str = "minio:s3") -> dict[str, Any]:
    record = s3(name="s3:ObjectCreated:Put", eventSource=source)
    record["s3"]["object"]["userMetadata"] = {"content-type": "video/mp4"}
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"b/{KEY}", "Records": [record]}


def cloud_event(data: Any, kind: str = "com.amazonaws.s3.ObjectCreated:Put") -> dict[str, Any]:
    return {"specversion": "1.0", "type": kind, "source": "aws:s3.eu.b", "subject": KEY, "time": TIME, "data": data}


def seaweed(kind: str = "create", **message: Any) -> dict[str, Any]:
    entry = {"name": "a+b ü.mp4", "attributes": {"file_size": 10, "mtime": 1}}
    return {"key": f"/buckets/b/{KEY}", "event_type": kind, "message": {"new_entry": entry, **message}}


def nested(depth: int) -> str:
    return json.dumps(sns(nested(depth - 1) if depth else "{}"))


MESSAGES = {
    "s3": {"Records": [s3()]},
    "multipart": {"Records": [s3(name="ObjectCreated:CompleteMultipartUpload")]},
    "restored": {"Records": [s3(name="ObjectRestore:Completed")]},
    "sns": sns(json.dumps({"Records": [s3()]})),
    "sns to lambda": {"Records": [{"EventSource": "aws:sns", "Sns": sns(json.dumps({"Records": [s3()]}))}]},
    "sqs to lambda": {"Records": [{"receiptHandle": "r", "body": json.dumps({"Records": [s3()]})}]},
    "eventbridge": eventbridge(),
    "eventbridge by sns": sns(json.dumps(eventbridge())),
    "minio": minio(),
    "rustfs": minio("rustfs:s3"),
    "rustfs before 1.0": {"event_name": "ObjectCreatedPut", "records": [s3(name="ObjectCreatedPut")]},
    "cloudevent of a record": cloud_event(s3()),
    "cloudevent of a message": cloud_event({"Records": [s3()]}),
    "cloudevent of a section": cloud_event(s3()["s3"]),
    "seaweedfs": seaweed(),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_every_dialect_becomes_the_same_event(name: str) -> None:
    found = parse(json.dumps(MESSAGES[name]).encode())
    assert (found.tests, found.other, found.faults) == (0, 0, [])
    [event] = found.events
    assert (event.bucket, event.size) == ("b", 10)
    assert event.uri == f"s3://b/{KEY}"
    if name != "seaweedfs":
        assert (event.etag, event.version, event.order) == ("e1", "v1", "0055AED6DCD90281E5")
        assert event.time == datetime(2026, 11, 21, 14, 5, 0, 250_000, UTC)


def test_the_other_way_to_read_a_key_comes_second() -> None:
    assert parse(json.dumps({"Records": [s3()]})).events[0].keys == (KEY, ENCODED)
    assert parse(json.dumps(eventbridge())).events[0].keys == (KEY, KEY.replace("+", " "))
    assert parse(json.dumps({"Records": [s3("plain.mp4")]})).events[0].keys == ("plain.mp4",)
    assert parse(json.dumps({"Records": [s3("%ff%fe.mp4")]})).events[0].keys == ("%ff%fe.mp4",), "no UTF-8"


@pytest.mark.parametrize(
    ("message", "tests", "other"),
    [
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": TIME, "Bucket": "b"}, 1, 0),
        (sns(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})), 1, 0),
        ({"Records": [{"Event": "s3:TestEvent"}]}, 1, 0),
        ({"Records": []}, 1, 0),
        ({"Records": [s3(name="ObjectRemoved:Delete"), s3(name="s3:ObjectAccessed:Get")]}, 0, 2),
        (eventbridge("Object Deleted"), 0, 1),
        (seaweed("delete", new_entry=None, old_entry={}), 0, 1),
        (seaweed(new_entry={"name": "folder", "is_directory": True}), 0, 1),
        ({"key": "/buckets/b/.uploads/1/1.part", "event_type": "create", "message": {"new_entry": {}}}, 0, 1),
        (cloud_event(s3()["s3"], "com.amazonaws.s3.ObjectRemoved:Delete"), 0, 1),
    ],
)
def test_tests_and_deletions_are_counted(message: Any, tests: int, other: int) -> None:
    found = parse(json.dumps(message))
    assert (found.tests, found.other, found.events, found.faults) == (tests, other, [], [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        ("[]", "JSON list"),
        ("null", "NoneType"),
        ('{"hello": "world"}', "no notification"),
        ('{"Type": "SubscriptionConfirmation", "Message": "m", "SubscribeURL": "https://x"}', "confirmation"),
        (json.dumps(sns("no JSON")), "not JSON"),
        (json.dumps({"Records": [{"s3": {}}]}), "without eventName"),
        (json.dumps({"Records": [s3(s3={"bucket": {"name": "b"}})]}), "without object"),
        (json.dumps({"Records": [s3("")]}), "without a key"),
        (json.dumps({"Records": [s3("k" * 2000)]}), "no object can have"),
        (json.dumps({"Records": [s3(s3={"bucket": {"name": 1}, "object": {"key": "k"}})]}), "name of a bucket"),
        (json.dumps({"Records": [s3()] * (MOST_RECORDS + 1)}), "records in one message"),
        (json.dumps({**eventbridge(), "detail": None}), "without detail"),
        (json.dumps({"detail-type": "EC2 Instance State-change Notification", "source": "aws.ec2"}), "EventBridge"),
        (json.dumps(cloud_event(None)), "without data"),
        (json.dumps({"key": "/topics/x", "event_type": "create", "message": {"new_entry": {}}}), "no bucket"),
        (nested(5), "within"),
        (" " * (MOST_BYTES + 1), "bytes"),
    ],
)
def test_what_is_no_notification_is_handed_back_with_the_reason(body: str | bytes, reason: str) -> None:
    found = parse(body)
    assert found.events == []
    [fault] = found.faults
    assert reason in fault.reason


def test_one_bad_record_does_not_spoil_the_others() -> None:
    found = parse(json.dumps({"Records": [s3("1.mp4"), {"eventName": "ObjectCreated:Put"}, None, s3("2.mp4")]}))
    assert [event.keys[0] for event in found.events] == ["1.mp4", "2.mp4"]
    assert [json.loads(fault.body) for fault in found.faults] == [{"eventName": "ObjectCreated:Put"}, None]


def test_a_dead_letter_has_no_character_that_a_queue_refuses() -> None:
    [fault] = parse(json.dumps(sns("\x00 \ud800 \uffff ok ü"))).faults
    assert fault.body == "\\x00 \\ud800 \\uffff ok ü"


def test_strange_fields_are_left_out() -> None:
    odd = {"key": "k", "size": -1, "eTag": 5, "versionId": "x" * 5000, "sequencer": None}
    [event] = parse(json.dumps({"Records": [s3(s3={"bucket": {"name": "b"}, "object": odd}, eventTime="soon")]})).events
    assert event == ObjectEvent("b", ("k",), None, None, None, None, None, "aws:s3")


@pytest.mark.parametrize(
    ("one", "other", "older"),
    [
        ("0055AED6DCD90281E5", "0055AED6DCD90281E6", True),
        ("0055AED6DCD90281E5", "0055AED6DCD90281E5", False),
        ("0055AED6DCD9", "0055AED6DCD90281E5", True),
        ("0055AED6DCDA", "0055AED6DCD90281E5", False),
        ("0055AED6DCD9", "0055AED6DCD900", False),
        ("0a", "0B", True),
        (None, "0B", False),
        ("0B", None, False),
    ],
)
def test_sequencers_are_padded_on_the_right(one: str | None, other: str | None, older: bool) -> None:
    assert is_older(one, other) is older
