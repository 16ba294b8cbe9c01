"""An SQS queue by boto3: long polls, deletions, pauses, and the queue of dead letters that its redrive policy names."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from tasks.core.errors import CredentialsRefused, NetworkError, SetupError
from tasks.core.s3 import BAD_CREDENTIALS, NO_PERMISSION, credential_failures, error_code
from tasks.core.source_names import display_source

LONG_POLL_S: Final = 20
"""Longest that SQS keeps a request waiting for a message."""

BATCH: Final = 10
"""Messages of one request."""

MOST_PAUSE_S: Final = 900
ATTEMPTS: Final = 4
MOST_REASON: Final = 500
"""Letters of a reason."""


class Message(NamedTuple):
    """A message that this process has for the time being."""

    id: str
    receipt: str
    body: str
    sent: datetime | None
    receives: int
    """How often it was handed out, this time included."""


class SqsQueue:
    """A queue by its URL. Methods raise SetupError, CredentialsRefused and NetworkError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shown = display_source(url)

    def receive(self, wait_s: float = LONG_POLL_S) -> list[Message]:
        """Up to ten messages; none after `wait_s` seconds without any."""
        with self._failures():
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=min(LONG_POLL_S, max(0, round(wait_s))),
                MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            )
        return [_message(found) for found in answer.get("Messages", ())]

    def delete(self, messages: Sequence[Message]) -> None:
        """Takes messages out of the queue; one that could not be taken out comes again."""
        if not messages:
            return
        entries = [{"Id": str(n), "ReceiptHandle": message.receipt} for n, message in enumerate(messages)]
        with self._failures():
            self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)

    def put_back(self, message: Message) -> float:
        """Lets it come again after a pause, in seconds, that grows with every time that it has come."""
        pause_s = min(MOST_PAUSE_S, 2 ** min(message.receives, 10))
        with self._failures():
            self._client.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=message.receipt, VisibilityTimeout=pause_s
            )
        return float(pause_s)

    def bury(self, body: str, reason: str, message: Message) -> bool:
        """Sends a body to the queue of dead letters with the reason; False where there is none."""
        dead = self._dead_letters
        if dead is None:
            return False
        with self._failures():
            self._client.send_message(
                QueueUrl=dead,
                MessageBody=body or "(empty)",
                MessageAttributes={
                    "Reason": {"DataType": "String", "StringValue": reason[:MOST_REASON]},
                    "MessageId": {"DataType": "String", "StringValue": message.id},
                },
            )
        return True

    def check(self) -> None:
        """Raises where the queue is not there or may not be read."""
        with self._failures():
            self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])

    @functools.cached_property
    def _dead_letters(self) -> str | None:
        with self._failures():
            answer = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
            policy = answer.get("Attributes", {}).get("RedrivePolicy")
            if not policy:
                return None
            *_, account, name = json.loads(policy)["deadLetterTargetArn"].split(":")
            return str(self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])

    @functools.cached_property
    def _client(self) -> Any:
        with self._failures():
            return _client(self.url)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        from botocore import exceptions as failures

        try:
            yield
        except failures.ClientError as error:
            code = error_code(error)
            if "NonExistentQueue" in code or code in ("QueueDoesNotExist", "InvalidAddress"):
                raise SetupError(f"There is no queue at {self.shown}; correct --queue, or make the queue.") from None
            if code in BAD_CREDENTIALS:
                raise CredentialsRefused(f"{self.shown}: SQS refuses the credentials ({code}); renew them.") from None
            if code in NO_PERMISSION:
                raise SetupError(
                    f"{self.shown}: SQS refuses access ({code}); allow sqs:ReceiveMessage, DeleteMessage, "
                    "ChangeMessageVisibility and GetQueueAttributes, and SendMessage to the queue of dead letters."
                ) from None
            raise NetworkError(f"{self.shown}: SQS failed ({code}); it is tried again.") from None
        except credential_failures():
            raise CredentialsRefused(
                f"{self.shown}: there are no AWS credentials that can be used; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role."
            ) from None
        except (failures.BotoCoreError, ValueError) as error:
            raise NetworkError(
                f"{self.shown}: {type(error).__name__} on the way to SQS; it is tried again. If this stays, check the "
                "queue's URL, AWS_ENDPOINT_URL and the network."
            ) from None


def _client(url: str) -> Any:
    """Speaks to the endpoint of AWS_ENDPOINT_URL(_SQS); without one, to the host of the queue's own URL."""
    import boto3
    from botocore.config import Config

    parts = urlsplit(url)
    host = parts.hostname or ""
    named = os.environ.get("AWS_ENDPOINT_URL_SQS") or os.environ.get("AWS_ENDPOINT_URL")
    on_aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    arguments: dict[str, Any] = {}
    if on_aws and host.startswith("sqs."):
        arguments["region_name"] = host.split(".")[1]
    elif not named and not on_aws:
        arguments["endpoint_url"] = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return boto3.session.Session().client(
        "sqs",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=10,
            read_timeout=LONG_POLL_S + 20,
            max_pool_connections=16,
        ),
        **arguments,
    )


def _message(found: dict[str, Any]) -> Message:
    attributes = found.get("Attributes", {})
    sent = attributes.get("SentTimestamp", "")
    return Message(
        id=str(found["MessageId"]),
        receipt=str(found["ReceiptHandle"]),
        body=str(found.get("Body", "")),
        sent=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent.isdigit() else None,
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
    )
