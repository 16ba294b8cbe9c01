"""How a target is reached: a signed webhook, or one of the services that apprise knows."""

from __future__ import annotations

import os
import time

from tasks.core.alerts import message
from tasks.core.alerts.evaluate import Alert
from tasks.core.alerts.rules import Target
from tasks.core.errors import SetupError
from tasks.records.deliveries import Outcome

TIMEOUT_S = 10.0
LATER = frozenset({408, 425, 429})
"""Refusals that ask to try again."""


def send(target: Target, alert: Alert, timezone: str, key: str, attempt: int, again: bool) -> tuple[Outcome, str]:
    """Tells one target once. Raises SetupError where the environment does not hold what the target names."""
    if target.webhook:
        return _webhook(target, alert, key, attempt, again)
    return _apprise(target, alert, timezone, key, again)


def _webhook(target: Target, alert: Alert, key: str, attempt: int, again: bool) -> tuple[Outcome, str]:
    import httpx

    content = message.body(alert, key, attempt=attempt, again=again)
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "Reelflow-Attempt": str(attempt)}
    if again:
        headers["Reelflow-After-Unknown-Outcome"] = "true"
    if target.secret:
        headers["Reelflow-Signature"] = message.signature(named(target.secret), int(time.time()), content)
    try:
        answer = httpx.post(named(target.webhook or ""), content=content, headers=headers, timeout=TIMEOUT_S)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return "unreachable", type(error).__name__
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        return "refused", f"the webhook's URL cannot be used: {type(error).__name__}"
    except httpx.HTTPError as error:
        return "unknown", type(error).__name__
    if answer.is_success:
        return "sent", f"HTTP {answer.status_code}"
    if answer.status_code >= 500:
        return "unknown", f"HTTP {answer.status_code}"
    return "unreachable" if answer.status_code in LATER else "refused", f"HTTP {answer.status_code}"


def _apprise(target: Target, alert: Alert, timezone: str, key: str, again: bool) -> tuple[Outcome, str]:
    """apprise says yes or no, not why: after a no it may have arrived."""
    import apprise

    service = apprise.Apprise()
    if not service.add(named(target.url or "")):
        return "refused", "apprise knows no such service, or its URL lacks a part"
    told = service.notify(title=message.title(alert), body=message.text(alert, timezone, key, again=again))
    return ("sent", "") if told else ("unknown", "apprise could not send it, or got no answer")


def named(value: str) -> str:
    """The value, or that of the environment variable which `env:NAME` names."""
    if not value.startswith("env:"):
        return value
    found = os.environ.get(value.removeprefix("env:"))
    if not found:
        raise SetupError(f"The rules name {value}, but the environment variable is not set; set it and run again.")
    return found
