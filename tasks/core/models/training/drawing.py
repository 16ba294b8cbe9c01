"""Drawn shapes on varied backgrounds: what the bundled detector learns from and what the sample clip shows."""

from dataclasses import dataclass

import cv2
import numpy as np

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")

_SUBPIXEL_BITS = 4
_RING_HOLE = 0.58
"""Inner over outer radius of a ring."""
_STAR_HOLE = 0.42
_CROSS_ARM = 0.36
"""Half width of a cross's arm over its half length."""

BGR = tuple[int, int, int]

PALETTE: dict[str, BGR] = {
    "red": (40, 40, 220),
    "blue": (220, 90, 30),
    "green": (60, 170, 40),
    "yellow": (40, 220, 240),
    "black": (20, 20, 20),
    "white": (245, 245, 245),
    "orange": (20, 140, 250),
    "purple": (170, 50, 140),
}


@dataclass(frozen=True)
class Shape:
    """A shape in an image: class, centre and circumscribed radius in pixels, angle in radians, colour."""

    name: str
    x: float
    y: float
    radius: float
    angle: float
    colour: BGR


def outline(shape: Shape) -> np.ndarray:
    """Vertices of the shape's outer edge, float64 (N, 2), in pixels."""
    if shape.name in ("circle", "ring"):
        turns, radii = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.ones(64)
    elif shape.name == "square":
        turns, radii = np.pi / 4 + np.arange(4) * np.pi / 2, np.ones(4)
    elif shape.name == "triangle":
        turns, radii = -np.pi / 2 + np.arange(3) * 2 * np.pi / 3, np.ones(3)
    elif shape.name == "star":
        turns, radii = -np.pi / 2 + np.arange(10) * np.pi / 5, np.tile([1.0, _STAR_HOLE], 5)
    else:
        w = _CROSS_ARM
        corner = np.array([(w, 1), (w, w), (1, w)])
        points = np.concatenate([corner @ np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, -1), (-1, 0), (0, 1))])
        turns, radii = np.arctan2(points[:, 1], points[:, 0]), np.hypot(points[:, 0], points[:, 1])
    turns = turns + shape.angle
    centre = np.array([shape.x, shape.y])
    points_around = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return np.asarray(centre + shape.radius * radii[:, None] * points_around)


def bounds(shape: Shape) -> tuple[float, float, float, float]:
    """Bounding box, xyxy pixels."""
    points = outline(shape)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def draw(image: np.ndarray, shape: Shape) -> None:
    """Fill the shape into `image` (H, W, 3 uint8 BGR), anti-aliased."""
    points = outline(shape)
    contours = [points]
    if shape.name == "ring":
        centre = np.array([shape.x, shape.y])
        contours.append(centre + (points - centre) * _RING_HOLE)
    fixed = [np.round(c * (1 << _SUBPIXEL_BITS)).astype(np.int32) for c in contours]
    cv2.fillPoly(image, fixed, shape.colour, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)


def background(width: int, height: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A background (H, W, 3 uint8 BGR): plain, gradient, stripes, checks, blobs or grain."""
    first, second = rng.integers(20, 236, 3), rng.integers(20, 236, 3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    if kind == "plain":
        mix = np.zeros_like(x)
    elif kind == "gradient":
        mix = (along - along.min()) / (np.ptp(along) + 1e-6)
    elif kind == "stripes":
        mix = 0.5 + 0.5 * np.sin(along * 2 * np.pi / rng.uniform(12, 80))
    elif kind == "checks":
        side = rng.uniform(14, 50)
        mix = ((x // side + y // side) % 2).astype(np.float32)
    elif kind == "blobs":
        coarse = rng.random((max(2, height // 40), max(2, width // 40))).astype(np.float32)
        mix = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    else:
        mix = rng.random((height, width)).astype(np.float32)
    contrast = 1.0 if kind in ("gradient", "plain", "blobs") else rng.uniform(0.15, 0.6)
    image = first + (second - first) * contrast * np.clip(mix, 0, 1)[..., None]
    return np.asarray(np.clip(image, 0, 255), np.uint8)


BACKGROUNDS = ("plain", "gradient", "stripes", "checks", "blobs", "grain")


def clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """Things that are no shape: lines, thin arcs and letters."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(0, 5))):
        a = (int(rng.integers(width)), int(rng.integers(height)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        kind = rng.integers(3)
        if kind == 0:
            b = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.line(image, a, b, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
        elif kind == 1:
            axes = (int(rng.integers(10, 80)), int(rng.integers(10, 80)))
            sweep = int(rng.integers(30, 200))
            cv2.ellipse(image, a, axes, int(rng.integers(360)), 0, sweep, colour, 2, cv2.LINE_AA)
        else:
            text = "".join(rng.choice(list("AEFGHKLMNPRSUWYZ2345679"), int(rng.integers(1, 6))))
            cv2.putText(image, text, a, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.3, 1.2), colour, 1, cv2.LINE_AA)
