"""What targets are told."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tasks.core.alerts.message import picture, signature


def test_the_box_is_drawn_where_the_object_is() -> None:
    plain = io.BytesIO()
    Image.new("RGB", (200, 100), (0, 0, 0)).save(plain, "JPEG")
    with Image.open(io.BytesIO(picture(plain.getvalue(), (0.25, 0.2, 0.5, 0.8)))) as drawn:
        red = np.asarray(drawn)[..., 0] > 128
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert abs(rows[0] - 20) <= 2
    assert abs(rows[-1] - 80) <= 2
    assert abs(columns[0] - 50) <= 2
    assert abs(columns[-1] - 100) <= 2
    assert not red[40:60, 60:90].any()


def test_a_signature_is_of_time_and_content() -> None:
    made = [
        signature("key", 2, b"{}"),
        signature("other", 2, b"{}"),
        signature("key", 1, b"{}"),
        signature("key", 2, b""),
    ]
    assert made[0].startswith("t=2,v1=")
    assert len(set(made)) == 4
