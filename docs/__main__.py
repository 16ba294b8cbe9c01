"""Write the parts of the pages that come from the code: `python -m docs`; `--check` only says which are stale.

A part stands between `<!-- made: NAME -->` and `<!-- end -->`; NAME is one of PARTS. The rest is written by hand.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from tasks.core import errors, schema
from tasks.core.options import AnalyzeOptions
from tasks.core.publish.tables import SCHEMAS
from tasks.settings import Settings

FOLDER = Path(__file__).resolve().parent
PART = re.compile(r"(?P<begin><!-- made: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
BOUNDS = (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; cells are text, in which `|` is escaped."""
    lines = [list(head), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def options() -> str:
    """Every option of `--set`, a table for each stage."""
    return "\n".join(
        f"### {section}\n\n{_first_sentence(type(outer.default))}"
        + table(
            ("option", "default", "bounds", "what it does"),
            [
                (f"`{section}.{name}`", _default(field), _bounds(field), field.description or "")
                for name, field in type(outer.default).model_fields.items()
            ],
        )
        for section, outer in AnalyzeOptions.model_fields.items()
    )


def settings() -> str:
    """Every setting of the environment."""
    return table(("variable", "default", "what it is"), _settings("REELFLOW_", Settings))


def _settings(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from _settings(f"{prefix}{name.upper()}__", type(field.default))
        else:
            yield f"`{prefix}{name.upper()}`", _default(field), field.description or ""


def commands() -> str:
    """Every command of `python -m flows` and `python -m deployments` with its arguments and options."""
    from deployments.__main__ import app as deployments_app
    from flows.__main__ import app as flows_app

    return "\n".join(
        _command(f"python -m {name}", typer.main.get_command(app))
        for name, app in (("flows", flows_app), ("deployments", deployments_app))
    )


def _command(words: str, command: Any) -> str:
    inner = getattr(command, "commands", None)
    if inner:
        return "\n".join(_command(f"{words} {name}", inner[name]) for name in sorted(inner))
    head, _, more = inspect.cleandoc(command.help or "").partition("\n")
    text = f"### {words.removeprefix('python -m ')}\n\n{head}\n"
    if more.strip():
        text += f"\n{' '.join(more.split())}\n"
    rows = [(f"`{_spelt(parameter)}`", _given(parameter), parameter.help or "") for parameter in command.params]
    return text + (f"\n{table(('', 'default', 'meaning'), rows)}" if rows else "")


def _spelt(parameter: Any) -> str:
    """`SOURCE...`, or `--store URI`."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if getattr(parameter, "is_flag", False):
        return names
    names_of = {int: "N", float: "NUMBER", Path: "PATH"}
    return f"{names} {parameter.metavar or names_of.get(parameter.type_descriptor.annotation, 'TEXT')}"


def _given(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default in (None, (), [], False) else f"`{parameter.default}`"


def reason_codes() -> str:
    """Every code with which a source is set aside, from the tree that tasks/core/errors.py opens with."""
    noted = {
        match["code"]: match["note"]
        for match in re.finditer(r"[├└]── \w+ +(?P<code>[a-z_]+) +(?P<note>\S.*)", errors.__doc__ or "")
    }
    kinds = {kind.code for kind in _below(errors.PermanentError)}
    return table(("code", "meaning"), [(f"`{code}`", note) for code, note in noted.items() if code in kinds])


def _below(kind: type[errors.ReelflowError]) -> Iterator[type[errors.ReelflowError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _below(inner)


def result_fields() -> str:
    """Every field of result.json, a table for each kind of record, as the code declares and describes it."""
    tree = ast.parse(inspect.getsource(schema))
    records = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    wanted, text = ["Result"], []
    for name in wanted:
        rows = list(_fields(records[name]))
        wanted += [
            inner
            for inner in records
            if inner not in wanted and any(re.search(rf"\b{inner}\b", kind) for _, kind, _ in rows)
        ]
        title = "result.json" if name == "Result" else name
        about = " ".join((ast.get_docstring(records[name]) or "").split("\n\n")[0].split())
        text.append(
            f"### {title}\n\n{about}\n\n".replace("\n\n\n\n", "\n\n")
            + table(("field", "type", "meaning"), [(f"`{field}`", f"`{kind}`", note) for field, kind, note in rows])
        )
    return "\n".join(text)


def _fields(record: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """(name, type, description) of the fields that a record declares."""
    for node, after in zip(record.body, [*record.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        kind = ast.unparse(node.annotation)
        if kind.startswith("ClassVar"):
            continue
        note = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            note = " ".join(after.value.value.split())
        yield node.target.id.rstrip("_"), kind, note


def table_columns() -> str:
    """The columns of each Parquet table of a store."""
    return table(
        ("table", "columns"),
        [
            (
                f"`{name}`",
                ", ".join(f"`{column.name}` {_kind(column.type)}" for column in columns if column.name not in KEYS),
            )
            for name, columns in SCHEMAS.items()
        ],
    )


def _kind(kind: pa.DataType) -> str:
    return "string" if pa.types.is_dictionary(kind) else str(kind).replace("list<item: float>", "list of float")


KEYS = ("media_id", "result_key")
PARTS: dict[str, Callable[[], str]] = {
    "options": options,
    "settings": settings,
    "commands": commands,
    "reason-codes": reason_codes,
    "result-fields": result_fields,
    "table-columns": table_columns,
}


def _first_sentence(model: type[BaseModel]) -> str:
    own = model.__dict__.get("__doc__")
    return f"{' '.join(own.split())}\n\n" if own else ""


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value == "" or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{_number(value)}`{_size(value)}"
    return f"`{', '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _size(value: float) -> str:
    return next((f" ({value / unit:g} {name})" for unit, name in UNITS if value >= unit and not value % unit), "")


def _bounds(field: FieldInfo) -> str:
    """`from 1 to 64`, or the values to choose from."""
    found = [
        f"{word} {_number(value)}"
        for name, word in BOUNDS
        for bound in field.metadata
        if (value := getattr(bound, name, None)) is not None
    ]
    choices = re.findall(r"'([^']+)'", kind) if "Literal" in (kind := str(field.annotation)) else []
    return " ".join(found) or ", ".join(f"`{choice}`" for choice in choices)


def fill(page: str) -> str:
    """The text of a page with its parts made anew. Raises KeyError for a part that nobody makes."""
    return PART.sub(lambda part: f"{part['begin']}\n{PARTS[part['name']]()}\n{part['end']}", page)


def stale() -> dict[Path, str]:
    """Pages whose parts are not what the code says, with the text that they should have."""
    pages = {path: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.md"))}
    filled = {path: fill(text) for path, text in pages.items()}
    return {path: text for path, text in filled.items() if text != pages[path]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say which pages are stale, with exit status 1")
    check = parser.parse_args().check
    found = stale()
    for path, text in found.items():
        if not check:
            path.write_text(text, "utf-8")
        print(f"docs/{path.name}: {'stale; run `python -m docs`' if check else 'written'}")
    sys.exit(1 if check and found else 0)


if __name__ == "__main__":
    main()
