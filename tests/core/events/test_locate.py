"""From an event to the object that is there, on a real S3 server; and what a queue does, on a real SQS server."""

from __future__ import annotations

import boto3
import pytest

from tasks.core.errors import SetupError
from tasks.core.events.locate import keys_below, locate
from tasks.core.events.notification import ObjectEvent
from tasks.core.events.sqs import SqsQueue
from tasks.core.listing import Selection, list_media
from tasks.core.s3 import S3Options

PREFIX = "s3://events/in/"


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="events")


def event(*keys: str, etag: str | None = None, bucket: str = "events") -> ObjectEvent:
    return ObjectEvent(bucket, keys, None, etag, None, None, None, "aws:s3")


def put(key: str, data: bytes) -> str:
    return str(boto3.client("s3").put_object(Bucket="events", Key=key, Body=data)["ETag"]).strip('"')


def test_it_is_found_as_a_listing_gives_it(s3: None) -> None:
    put("in/a b.mp4", b"1")
    found = locate(event("in/a b.mp4", "in/a+b.mp4"), PREFIX, S3Options())
    [listed] = [each for each in list_media(PREFIX, Selection(), S3Options()) if each.name == "a b.mp4"]
    assert found == listed


def test_the_key_is_tried_decoded_then_raw(s3: None) -> None:
    put("in/raw+only.mp4", b"2")
    found = locate(event("in/raw only.mp4", "in/raw+only.mp4"), PREFIX, S3Options())
    assert found
    assert found.source == "s3://events/in/raw+only.mp4"
    assert locate(event("in/neither.mp4"), PREFIX, S3Options()) is None


def test_of_two_objects_the_one_with_the_events_etag_is_meant(s3: None) -> None:
    put("in/x y.mp4", b"decoded")
    raw = put("in/x+y.mp4", b"raw")
    for etag, name in ((raw, "x+y.mp4"), (None, "x y.mp4"), ("of an older version", "x y.mp4")):
        found = locate(event("in/x y.mp4", "in/x+y.mp4", etag=etag), PREFIX, S3Options())
        assert found
        assert found.name == name


def test_only_what_lies_under_the_prefix_is_meant() -> None:
    assert keys_below(event("in/a", "other/a"), PREFIX) == ["in/a"]
    assert keys_below(event("in/a", bucket="another"), PREFIX) == []
    assert keys_below(event("anything"), "s3://events") == ["anything"]


def test_a_queue_gives_takes_back_and_buries(s3: None) -> None:
    sqs = boto3.client("sqs")
    dead = sqs.create_queue(QueueName="locate-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "9"}}'
    url = sqs.create_queue(QueueName="locate", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one")
    queue = SqsQueue(url)
    queue.check()
    [message] = queue.receive(0)
    assert (message.body, message.receives) == ("one", 1)
    assert message.sent
    assert queue.put_back(message) == 2
    assert queue.receive(0) == []
    [again] = queue.receive(5)
    assert (again.id, again.receives) == (message.id, 2)
    assert queue.bury("half of it", "no key", again)
    queue.delete([again])
    [letter] = sqs.receive_message(QueueUrl=dead, MessageAttributeNames=["All"])["Messages"]
    assert letter["Body"] == "half of it"
    assert letter["MessageAttributes"]["Reason"]["StringValue"] == "no key"
    plain = SqsQueue(sqs.create_queue(QueueName="locate-plain")["QueueUrl"])
    assert not plain.bury("x", "y", again), "it has no queue of dead letters"


def test_a_queue_that_is_not_there_is_named(s3: None) -> None:
    with pytest.raises(SetupError, match="There is no queue at"):
        SqsQueue("http://127.0.0.1/123456789012/nowhere").check()
