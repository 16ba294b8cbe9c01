"""Text banks: the tags and descriptions that videos are compared with, from a file that users edit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tasks.core.errors import BadTextBank

SHIPPED = Path(__file__).with_name("text_banks")
DEFAULT, BUNDLED = "default", "shapes"
"""Banks that come with Reelflow: for real models, and for the bundled one."""

MOST_TEXTS = 10_000
MAX_BYTES = 4 * 2**20


def _with_place(template: str) -> str:
    if template.count("{}") != 1 or template.replace("{}", "").count("{"):
        raise ValueError("a template needs {} once, where the tag goes")
    return template


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Template = Annotated[Text, AfterValidator(_with_place)]


class TextBank(BaseModel):
    """What a bank's file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    templates: Annotated[list[Template], Field(min_length=1, max_length=32)] = ["a photo of {}."]
    """Sentences that each tag is put into; the tag's vector is the mean over them."""
    tags: list[Text]
    descriptions: list[Text] = []
    """Whole sentences: the captions to choose from."""

    @model_validator(mode="after")
    def _bounded(self) -> TextBank:
        count = len(self.tags) * len(self.templates) + len(self.descriptions)
        if not self.tags or count > MOST_TEXTS:
            raise ValueError(f"it makes {count} texts; a bank has at least one tag and at most {MOST_TEXTS} texts")
        for name, texts in (("tags", self.tags), ("descriptions", self.descriptions)):
            if len(set(texts)) < len(texts):
                first = {text: number for number, text in reversed(list(enumerate(texts)))}
                twice = next(number for number, text in enumerate(texts) if first[text] < number)
                raise ValueError(f"number {twice + 1} of the {name} stands there twice")
        return self

    @property
    def digest(self) -> str:
        """sha256 of the texts in their order, hex."""
        return hashlib.sha256(json.dumps(self.model_dump(exclude={"name"})).encode()).hexdigest()


def resolve_bank(name: str, models: Path | None, *, bundled: bool) -> Path:
    """The file of a bank: a path (with a /), `text_banks/NAME.yaml` in the models folder, or one of Reelflow's own.

    auto is the default bank, or with the bundled model the one that it was trained for.  Raises BadTextBank.
    """
    if name == "auto":
        name = BUNDLED if bundled else DEFAULT
    folders = [folder for folder in (models / "text_banks" if models else None, SHIPPED) if folder]
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    places = [Path(name).expanduser()] if "/" in name else [folder / file for folder in folders]
    for place in places:
        if place.is_file() and ("/" in name or place.resolve().is_relative_to(place.parent.resolve())):
            return place
    known = sorted(file.stem for folder in folders for file in folder.glob("*.yaml"))
    raise BadTextBank(
        f"there is no text bank {name} (looked at {', '.join(map(str, places))}); give the path of a YAML file, or one "
        f"of {', '.join(known)}"
    )


def read_bank(path: Path) -> TextBank:
    """Reads a bank's file. Raises BadTextBank that says what is wrong in which line, and never what stands there."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadTextBank(f"{path}: a text bank has at most {MAX_BYTES // 2**20} MB")
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadTextBank(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadTextBank(f"{path}: is no text in UTF-8, at byte {error.start + 1}") from None
    root: yaml.Node | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return TextBank.model_validate(loader.construct_document(root) if root else None)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part in TextBank.model_fields or isinstance(part, int))
        says = f"{where or 'the bank'}: {first['msg'].removeprefix('Value error, ')}"
        if first["type"] == "extra_forbidden":
            says = f"a bank has no such field, only {', '.join(TextBank.model_fields)}"
        raise BadTextBank(f"{path}: {_place(root, first['loc'])}{says}") from None
    except _NoAliases as error:
        raise BadTextBank(f"{path}: {_line(error.problem_mark)}{error.problem}") from None
    except yaml.MarkedYAMLError as error:
        raise BadTextBank(f"{path}: {_line(error.problem_mark or error.context_mark)}is no YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadTextBank(f"{path}: is no YAML") from None


class _NoAliases(yaml.MarkedYAMLError):
    pass


class _Loader(yaml.SafeLoader):
    """No aliases: a small file must not grow into a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            says = "aliases (*name) are not taken here; write the texts out"
            raise _NoAliases(problem=says, problem_mark=self.get_mark())
        return super().compose_node(parent, index)


def _place(node: yaml.Node | None, location: tuple[int | str, ...]) -> str:
    """Where in a file a value stands, or whatever of its surroundings is there."""
    mark = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            at, node = next(((key, value) for key, value in node.value if key.value == part), (None, None))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            at = node = node.value[part]
        else:
            break
        mark = at.start_mark if at else mark
    return _line(mark)


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
