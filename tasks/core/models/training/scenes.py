"""Drawn scenes and what is true of them: the pictures and texts that the bundled SigLIP-type model learns from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tasks.core.models.training.drawing import BACKGROUNDS, CLASSES, PALETTE, Shape, background, bounds, clutter, draw

COLOURS = tuple(PALETTE)
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in CLASSES)
UNSEEN = (
    ("red", "star"),
    ("blue", "cross"),
    ("green", "ring"),
    ("yellow", "square"),
    ("orange", "triangle"),
    ("purple", "circle"),
)
"""Pairs that training never shows and never names: what the model says of them it has put together itself."""

TONES = {"dark": (0.0, 85.0), "light": (165.0, 256.0)}
"""Mean brightness of the empty background, 0 to 255, that each word stands for."""
PATTERNS = {"stripes": "striped", "checks": "checked"}
VISIBLE_PATTERN = 5.0
"""Standard deviation of a pattern's brightness below which nobody would name it."""

WIDTH, HEIGHT = 256, 144
_RADIUS_PX = (15.0, 25.0)
_TILT = (-0.15, 0.15)
"""Radians; squares are also drawn at any angle."""
_MIN_CONTRAST = 60.0
_MOST_OBJECTS = 4

Need = tuple[str | None, str | None]
"""Colour and shape of one thing that a text speaks of; None where it leaves that open."""


@dataclass(frozen=True)
class Scene:
    """What is in a picture."""

    objects: tuple[tuple[str, str], ...]
    tone: str | None
    pattern: str | None


@dataclass(frozen=True)
class Text:
    """A text, and what must be in a picture for it to be true."""

    text: str
    needs: tuple[Need, ...] = ()
    tone: str | None = None
    pattern: str | None = None
    empty: bool = False
    unknown: bool = False
    """It speaks of something that is never drawn."""

    def holds(self, scene: Scene) -> bool:
        """Whether everything that the text says is in the scene."""
        if self.unknown or (self.empty and scene.objects):
            return False
        if (self.tone or scene.tone) != scene.tone or (self.pattern or scene.pattern) != scene.pattern:
            return False
        return all(any(_fits(need, found) for found in scene.objects) for need in self.needs)


def _fits(need: Need, found: tuple[str, str]) -> bool:
    return need[0] in (None, found[0]) and need[1] in (None, found[1])


def render(
    rng: np.random.Generator, objects: list[tuple[str, str]] | None = None, *, pairs: tuple[tuple[str, str], ...] = ()
) -> tuple[np.ndarray, Scene, np.ndarray]:
    """A picture (H, W, 3 uint8 BGR), what is in it, and which object covers each pixel (H, W int16, -1: none).

    `objects` are drawn where given (those that find no room are left out), else up to four of `pairs`.
    """
    width, height = WIDTH, HEIGHT
    kind = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
    image = _background(width, height, kind, rng)
    grey = image.mean(axis=2)
    tone = next((name for name, (low, high) in TONES.items() if low <= grey.mean() < high), None)
    pattern = PATTERNS.get(kind) if grey.std() >= VISIBLE_PATTERN else None
    if rng.random() < 0.3:
        clutter(image, rng)
    if objects is None:
        count = int(rng.choice(_MOST_OBJECTS + 1, p=(0.06, 0.2, 0.26, 0.28, 0.2)))
        objects = [pairs[int(rng.integers(len(pairs)))] for _ in range(count)]
    owner = np.full((height, width), -1, np.int16)
    boxes: list[tuple[float, float, float, float]] = []
    drawn: list[tuple[str, str]] = []
    for colour, name in objects:
        shape = _place(image, colour, name, boxes, rng)
        if shape is None:
            continue
        before = image.copy()
        draw(image, shape)
        owner[np.abs(image.astype(np.int16) - before).max(axis=2) > _MIN_CONTRAST / 3] = len(drawn)
        boxes.append(bounds(shape))
        drawn.append((colour, name))
    return _degrade(image, rng), Scene(tuple(drawn), tone, pattern), owner


def _background(width: int, height: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    image = background(width, height, kind, rng)
    if rng.random() < 0.5:  # most backgrounds that chance makes are of middle brightness
        target = rng.uniform(20, 75) if rng.random() < 0.5 else rng.uniform(180, 235)
        image = np.clip(image + (target - image.mean()) * rng.uniform(0.6, 1.0), 0, 255).astype(np.uint8)
    return image


def _place(
    image: np.ndarray, colour: str, name: str, boxes: list[tuple[float, float, float, float]], rng: np.random.Generator
) -> Shape | None:
    height, width = image.shape[:2]
    for _ in range(12):
        radius = float(np.exp(rng.uniform(*np.log(_RADIUS_PX))))
        angle = float(rng.uniform(*_TILT) if name != "square" or rng.random() < 0.6 else rng.uniform(0, 2 * np.pi))
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        paint = np.clip(np.array(PALETTE[colour]) + rng.integers(-15, 16, 3), 0, 255)
        shape = Shape(name, float(x), float(y), radius, angle, (int(paint[0]), int(paint[1]), int(paint[2])))
        x0, y0, x1, y1 = bounds(shape)
        apart = all(x1 + 2 < b[0] or b[2] + 2 < x0 or y1 + 2 < b[1] or b[3] + 2 < y0 for b in boxes)
        under = image[max(int(y0), 0) : int(y1) + 1, max(int(x0), 0) : int(x1) + 1].reshape(-1, 3).mean(axis=0)
        if apart and np.abs(paint - under).max() >= _MIN_CONTRAST:
            return shape
    return None


def _degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.9)))
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(2, 8), image.shape)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    return image
