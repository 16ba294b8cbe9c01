"""The documentation says what is so: links lead somewhere, commands and options exist, what the code makes is fresh."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import __main__ as made
from tasks.core.options import AnalyzeOptions, option_names
from tasks.core.schema import Result
from tasks.settings import Settings
from tests.command_lines import command, lines, make_targets, parsed, programs
from tests.source_tree import FIRST_PARTY, ROOT
from tests.test_repository import repository_files

MOST_WORDS = 900

LINK = re.compile(r"\[(?:[^\]\\]|\\.)*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
VARIABLE = re.compile(r"\bREELFLOW_[A-Z0-9_]*")
FILES = {"srt", "vtt", "py", "json", "jpg", "html", "npz", "mp4", "md", "yaml"}


@cache
def pages() -> dict[str, str]:
    """Every Markdown file of the repository, by its path; not the figures, which benchmarks write."""
    files = [path for path in repository_files() if path.suffix == ".md"]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in files}


def docs() -> dict[str, str]:
    """The pages that a user reads first."""
    return {name: text for name, text in pages().items() if "/" not in name or name.startswith("docs/")}


def places(page: str) -> set[str]:
    """What a link can name in a page after `#`, as GitHub and mkdocs both make it of a heading."""
    titles = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", match["text"]) for match in HEADING.finditer(unfenced(page))]
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.strip().lower())) for title in titles}


def unfenced(page: str) -> str:
    return BLOCK.sub("", page)


def unlinked(name: str, text: str) -> Iterator[str]:
    """Links of a page that lead nowhere."""
    for match in LINK.finditer(SPAN.sub("", unfenced(text))):
        target, _, place = match["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        if not path.exists():
            yield f"{name}: {match['target']}"
        elif place and place not in places(path.read_text("utf-8")):
            yield f"{name}: {match['target']}: there is no such heading"


def test_every_internal_link_leads_somewhere() -> None:
    assert list(unlinked("docs/x.md", "[a](nowhere.md) [b](README.md#no-such-place) [c](store.md#exactly-once)")) == [
        "docs/x.md: nowhere.md",
        "docs/x.md: README.md#no-such-place: there is no such heading",
    ]
    assert [fault for name, text in pages().items() for fault in unlinked(name, text)] == []


def test_what_the_code_makes_is_fresh() -> None:
    assert [path.name for path in made.stale()] == [], "run `python -m docs`"
    used = set(re.findall(r"<!-- made: ([a-z-]+) -->", "".join(docs().values())))
    assert used == set(made.PARTS)


def test_a_stale_part_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "options.md").write_text("<!-- made: settings -->\n\nnone\n\n<!-- end -->\nkept\n", "utf-8")
    monkeypatch.setattr(made, "FOLDER", tmp_path)
    [text] = made.stale().values()
    assert "`REELFLOW_STORE`" in text
    assert text.endswith("<!-- end -->\nkept\n")


COMMANDS = sorted(
    {(name, shlex.join(words)) for name, text in pages().items() for line in lines(text) for words in programs(line)}
)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line}"[:100] for page, line in COMMANDS])
def test_a_command_line_is_understood_by_its_program(page: str, line: str) -> None:
    parsed(shlex.split(line))


@pytest.mark.parametrize(
    "line",
    [
        "python -m flows analyse x.mp4",
        "python -m flows analyze x.mp4 --sett a=b",
        "python -m flows watch s3://b/ --levels 9",
        "python -m flows alerts rum x",
        "python -m benchmarks nothing",
        "python -m benchmarks speech_accuracy --nothing 1",
        "prefect deployment run 'analyze-media/default' -p sauce=x",
        "prefect deployment run 'analyse-media/default' -p source=x",
        "make tea",
        "make demo NOTHING=1",
        "sudo make demo",
    ],
)
def test_a_wrong_command_line_would_be_found(line: str) -> None:
    with pytest.raises(Exception, match=r"."):
        parsed(shlex.split(line))


def spans() -> list[tuple[str, str]]:
    """(page, text) of everything that stands between backticks in running text."""
    return [(name, span) for name, text in pages().items() for span in SPAN.findall(unfenced(text))]


def test_a_command_in_running_text_exists() -> None:
    wrong = []
    for name, span in spans():
        words = span.removeprefix(".venv/bin/").split()
        if words[:2] == ["python", "-m"] and words[2] in ("flows", "deployments"):
            try:
                command(words[2], words[3:])
            except AssertionError as error:
                wrong.append(f"{name}: {error}")
        if words[0] == "make" and len(words) > 1 and words[1] not in make_targets():
            wrong.append(f"{name}: {span}")
    assert wrong == []


@cache
def source() -> str:
    """All text of the repository that is no Markdown."""
    texts = [
        path for path in repository_files() if path.suffix not in (".md", ".svg", ".webp", ".pt", ".mp4", ".jsonl")
    ]
    return "\n".join(path.read_text("utf-8", "ignore") for path in texts)


@cache
def known_options() -> set[str]:
    """Options of our commands, and what else our files give to programs."""
    return set(OPTION.findall(made.commands())) | set(OPTION.findall(source()))


def test_an_option_in_running_text_exists() -> None:
    assert "--no-such-thing" + "-at-all" not in known_options()
    wrong = [
        f"{name}: {option}"
        for name, span in spans()
        for option in OPTION.findall(span)
        if option not in known_options() and not span.startswith(("uv ", "pip ", "docker "))
    ]
    assert wrong == []


def variables(model: Any, prefix: str = "REELFLOW_") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name.upper()}"
        if hasattr(field.default, "model_fields"):
            yield from variables(type(field.default), f"{prefix}{name.upper()}__")


def test_a_variable_that_is_named_exists() -> None:
    known = {*variables(Settings), *VARIABLE.findall(source())}
    starts = ("REELFLOW_SECRET_", *(f"{name}__" for name in known))
    wrong = {
        f"{page}: {name}"
        for page, text in pages().items()
        for name in VARIABLE.findall(text)
        if name not in known and not (name.startswith("REELFLOW_SECRET_") or name in starts)
    }
    assert wrong == set()


def test_an_option_of_a_stage_that_is_named_exists() -> None:
    sections = "|".join(AnalyzeOptions.model_fields)
    fields = {
        f"{name}.{inner}"
        for name, field in Result.model_fields.items()
        for inner in getattr(field.annotation, "model_fields", ())
    }
    wrong = {
        f"{page}: {found}"
        for page, span in spans()
        if page in docs()
        for found in re.findall(rf"(?<![\w/.])((?:{sections})\.[a-z_0-9]+)", span)
        if found not in {*option_names(), *fields} and found.partition(".")[2] not in FILES
    }
    assert wrong == set()


def test_a_path_that_is_named_exists() -> None:
    folders = "|".join([*FIRST_PARTY, "requirements"])
    wrong = {
        f"{page}: {span}"
        for page, span in spans()
        if re.fullmatch(rf"(?:{folders})/[\w./-]+", span)
        and not any((ROOT / path).exists() for path in (span, f"{span}.example"))
    }
    assert wrong == set()


def test_every_page_is_in_the_site_and_in_its_table() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    navigated = set(re.findall(r"[\w/-]+\.md", yaml.safe_dump(site["nav"])))
    own = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert own <= navigated
    assert all((ROOT / name.removeprefix("repository/")).is_file() for name in navigated - own)
    linked = {match["target"] for match in LINK.finditer(pages()["docs/README.md"])}
    assert own - linked == {"README.md"}


def test_the_front_page_is_read_in_two_minutes() -> None:
    assert len(pages()["README.md"].split()) <= MOST_WORDS
    for command_line in ("make demo", "make test"):
        assert command_line in [shlex.join(words) for line in lines(pages()["README.md"]) for words in programs(line)]


def test_the_figures_of_the_front_page_are_those_of_the_benchmarks() -> None:
    rows = re.findall(r"^\|.*\|[ *]*\d+\.\d+[^|]*\|$", pages()["README.md"], re.MULTILINE)
    assert len(rows) >= 6
    told = re.findall(r"^\|.*\|([^|]*)\|$", pages()["docs/benchmarks.md"], re.MULTILINE)
    assert [row for row in rows if not any(figures(cell) >= figures(row.split("|")[-2]) for cell in told)] == []


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))
