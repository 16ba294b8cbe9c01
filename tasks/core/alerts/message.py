"""What a target is told: a title, a text, and for a webhook the whole alert as signed JSON."""

from __future__ import annotations

import hashlib
import hmac
import io
from datetime import UTC, datetime
from typing import Any, Final

from PIL import Image, ImageDraw

from tasks.core.alerts.clock import zone
from tasks.core.alerts.evaluate import Alert
from tasks.core.records import json_bytes
from tasks.core.tracking.records import Place

PRE_ROLL_S: Final = 5.0
POST_ROLL_S: Final = 5.0

AGAIN: Final = "Sent again: whether the first attempt arrived is not known."


def line(alert: Alert) -> dict[str, Any]:
    """The alert as `alerts --json` and webhooks give it."""
    at = alert.media_time or 0.0
    return {
        "id": alert.id,
        "rule": alert.rule,
        "camera": alert.camera,
        "visit": alert.visit,
        "kind": alert.kind,
        "start": rfc3339(alert.start),
        "end": rfc3339(alert.time),
        "classes": list(alert.classes),
        "why": alert.why,
        "media_id": alert.media_id,
        "media_time": alert.media_time,
        "box": alert.box,
        "image": alert.image,
        "clip": f"{alert.source}#t={max(0.0, at - PRE_ROLL_S):g},{at + POST_ROLL_S:g}",
    }


def title(alert: Alert) -> str:
    return f"{alert.rule} ({alert.camera})"


def text(alert: Alert, timezone: str, key: str, *, again: bool) -> str:
    """For a person: what, when by the place's clock, where to look, and the key that tells a repetition."""
    local = datetime.fromtimestamp(alert.time, zone(timezone))
    lines = [f"{alert.why}, {local:%Y-%m-%d %H:%M:%S %Z}", line(alert)["clip"], f"Key {key[:16]}."]
    return "\n".join([*lines, AGAIN] if again else lines)


def body(alert: Alert, key: str, *, attempt: int, again: bool) -> bytes:
    """JSON of a webhook: the alert, the key by which the receiver drops repetitions, and which attempt this is."""
    return json_bytes(line(alert) | {"key": key, "attempt": attempt, "after_unknown_outcome": again})


def signature(secret: str, moment: int, content: bytes) -> str:
    """`t=UNIX,v1=HEX`: HMAC-SHA256 of "UNIX.content". The receiver computes it anew and refuses old times."""
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + content, hashlib.sha256)
    return f"t={moment},v1={mac.hexdigest()}"


def picture(jpeg: bytes, box: Place | None) -> bytes:
    """The frame, JPEG, with the object's box drawn into it."""
    with Image.open(io.BytesIO(jpeg)) as opened:
        frame = opened.convert("RGB")
    if box:
        place = [part * side for part, side in zip(box, frame.size * 2, strict=True)]
        ImageDraw.Draw(frame).rectangle(place, outline=(255, 60, 0), width=max(2, frame.height // 150))
    drawn = io.BytesIO()
    frame.save(drawn, "JPEG", quality=85)
    return drawn.getvalue()


def rfc3339(time: float) -> str:
    moment = datetime.fromtimestamp(round(time * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
