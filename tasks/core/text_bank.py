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
        raise ValueError(f"the template {template!r} needs {{}} once, where the tag goes")
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
        for texts in (self.tags, self.descriptions):
            if len(set(texts)) < len(texts):
                raise ValueError(f"{next(text for text in texts if texts.count(text) > 1)!r} stands there twice")
        return self

    @property
    def digest(self) -> str:
        """sha256 of the texts in their order, hex."""
        return hashlib.sha256(json.dumps(self.model_dump(exclude={"name"})).encode()).hexdigest()


def resolve_bank(name: str, models: Path | None, *, bundled: bool) -> Path:
    """The file of a bank: a path, `text_banks/NAME.yaml` in the models folder, or one that comes with Reelflow.

    auto is the default bank, or with the bundled model the one that it was trained for.  Raises BadTextBank.
    """
    if name == "auto":
        name = BUNDLED if bundled else DEFAULT
    folders = [folder for folder in (models / "text_banks" if models else None, SHIPPED) if folder]
    places = [Path(name)] if "/" in name or name.endswith((".yaml", ".yml")) else [f / f"{name}.yaml" for f in folders]
    for place in places:
        if place.is_file():
            return place
    known = sorted(file.stem for folder in folders for file in folder.glob("*.yaml"))
    raise BadTextBank(
        f"there is no text bank {name} (looked at {', '.join(map(str, places))}); give the path of a YAML file, or one "
        f"of {', '.join(known)}"
    )


def read_bank(path: Path) -> TextBank:
    """Reads a bank's file. Raises BadTextBank that says what is wrong in it and where."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadTextBank(f"{path}: a text bank has at most {MAX_BYTES // 2**20} MB")
        return TextBank.model_validate(_read_yaml(path))
    except OSError as error:
        raise BadTextBank(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadTextBank(f"{path}: is no YAML: {' '.join(str(error).split())[:300]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the bank"
        raise BadTextBank(f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}") from error


class _Loader(yaml.SafeLoader):
    """No aliases: a small file must not grow into a huge one."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken here; write the texts out")
        return super().compose_node(parent, index)


def _read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - a subclass of SafeLoader
