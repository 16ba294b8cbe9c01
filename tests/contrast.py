"""Contrast of what a page shows, as WCAG 2.2 measures it (1.4.3 and 1.4.11, level AA)."""

from __future__ import annotations

from typing import Any

from tests.browser import Page

TOO_LOW = """(() => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = (element) => {
    const own = parse(getComputedStyle(element).backgroundColor);
    if (own[3] === 1) return own;
    const below = element.parentElement ? ground(element.parentElement) : [255, 255, 255, 1];
    return own[3] ? over(own, below) : below;
  };
  const seen = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    && element.getBoundingClientRect().width > 1;
  const low = [];
  const check = (element, color, least, what) => {
    const below = ground(element), found = ratio(over(parse(color), below), below);
    if (found < least) low.push([what, Math.round(found * 100) / 100]);
  };
  for (const element of document.querySelectorAll("body *")) {
    if (!seen(element)) continue;
    const style = getComputedStyle(element);
    const text = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    const isSvg = element instanceof SVGElement;
    if (text.length && !["SCRIPT", "STYLE", "TITLE", "title"].includes(element.tagName)) {
      const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      check(element, isSvg ? style.fill : style.color, large ? 3 : 4.5, text[0].data.trim().slice(0, 40));
    }
    if (element.placeholder) check(element, getComputedStyle(element, "::placeholder").color, 4.5, element.placeholder);
    if (isSvg && element.tagName === "svg" && element.closest("a, button")) {
      const paint = style.fill === "none" ? style.stroke : style.fill;
      check(element.parentElement, paint, 3, element.parentElement.getAttribute("aria-label"));
    }
  }
  return low;
})()"""


def ratio(one: str, other: str) -> float:
    """Contrast of two colours written as #rrggbb."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def too_low(page: Page) -> list[Any]:
    """[text, ratio] of each visible text below 4.5 (large: 3), and of each picture of a link or button below 3."""
    found: list[Any] = page.run(TOO_LOW)
    return found
