"""The explorer in a headless browser."""

from __future__ import annotations

import json
from typing import Self

from tests.browser import Page


class Tab:
    """A page of tests/browser.py that opens addresses of the explorer."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base

    def open(self, path: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Self:
        """Load an address of the explorer and wait until it shows its answer; forgets what was noted before."""
        page = self.page
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url="about:blank")
        page.wait("location.href === 'about:blank'")
        page.requests.clear()
        page.messages.clear()
        page.call("Page.navigate", url=self.base + path)
        page.wait("document.readyState === 'complete' && location.protocol === 'http:'")
        return self.settle()

    def settle(self) -> Self:
        """Wait until the page has its answer."""
        self.page.wait("!document.querySelector('[aria-busy=true]')")
        return self

    def type(self, selector: str, text: str) -> None:
        """Click into a field and type, key by key."""
        self.page.click(selector)
        for character in text:
            self.page.press(character, text=character)

    def text(self, selector: str) -> str:
        return str(self.page.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def count(self, selector: str) -> int:
        return int(self.page.run(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def noise(self) -> list[str]:
        """What was refused, broken or printed, and asked of another server; the browser draws icons of its own."""
        ours = (self.base, "data:image/", "about:blank")
        return [*self.page.messages, *(url for url in self.page.requests if not url.startswith(ours))]
