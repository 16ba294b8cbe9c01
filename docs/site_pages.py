"""What mkdocs calls while it builds the site: Markdown files outside this folder that pages link to become pages too.

A page links to them as they lie on the disk (`../infra/README.md`), so that the link works in a checkout, too. In the
site they lie under `repository/`. A link to a file that is neither Markdown nor a picture is left as text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
PLACE = "repository"
"""Where files from outside docs/ lie in the site."""

LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)")
FETCHED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Raises PluginError for a page that would fetch something from another host when it is read."""
    from mkdocs.exceptions import PluginError

    if fetched := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} fetches from another host: {fetched[0]}")
    return output


def on_files(files: Any, config: Any) -> Any:
    """Adds what pages of the site link to, and what that links to in turn."""
    from mkdocs.structure.files import File

    waiting = list((ROOT / "docs").glob("*.md"))
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for match in LINK.finditer(page.read_text("utf-8")):
            path = _beside(page.relative_to(ROOT).as_posix(), match["target"])
            linked = ROOT / path if path else page
            if linked in seen or not linked.is_file() or path.startswith("docs/"):
                continue
            seen.add(linked)
            if linked.suffix in (".md", ".svg"):
                files.append(File.generated(config, f"{PLACE}/{path}", abs_src_path=str(linked)))
            if linked.suffix == ".md":
                waiting.append(linked)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    name = page.file.src_uri
    here = name.removeprefix(f"{PLACE}/") if name.startswith(f"{PLACE}/") else f"docs/{name}"

    def turned(match: re.Match[str]) -> str:
        path = _beside(here, match["target"])
        if not path:
            return match[0]
        there = path.removeprefix("docs/") if path.startswith("docs/") else f"{PLACE}/{path}"
        if files.get_file_from_path(there) is None:
            return match["text"] if (ROOT / path).exists() else match[0]
        fragment = urlsplit(match["target"]).fragment
        relative = posixpath.relpath(there, posixpath.dirname(name) or ".")
        return f"{match['text']}({relative}{'#' + fragment if fragment else ''})"

    return LINK.sub(turned, markdown)


def _beside(page: str, target: str) -> str:
    """Path in the repository that a link of a page leads to; empty for another site or a place in the same page."""
    parts = urlsplit(target)
    if parts.scheme or not parts.path:
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), parts.path))
