"""The file of rules: YAML, checked whole, with the line of each fault.

timezone: Europe/Berlin
targets:
  phone: {url: "env:PHONE_URL"}
  log: {webhook: "https://example.org/alerts", secret: "env:ALERT_SECRET"}
rules:
  - name: person at the back door at night
    camera: back-door
    class: person
    zone: [[0.2, 0.5], [0.8, 0.5], [0.8, 1], [0.2, 1]]
    when: {from: "22:00", to: "06:00"}
    to: [phone, log]
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tasks.core.alerts.clock import Hours, TimeZone
from tasks.core.alerts.place import Line, Zone
from tasks.core.options import Section

VERSION: Final = 1
"""Part of every rule's digest: raised when the same rule fires at other moments than before."""

MOST_BYTES: Final = 2**20


class BadRules(ValueError):
    """A file of rules that cannot be used; the message has a line for each fault."""


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], BeforeValidator(_several)]


class Frames(Section):
    """Seen in k of the last n sampled frames."""

    k: int = Field(3, ge=1, le=100)
    n: int = Field(5, ge=1, le=100)

    @model_validator(mode="after")
    def _possible(self) -> Frames:
        if self.k > self.n:
            raise ValueError(f"{self.k} of {self.n} frames can never be")
        return self


class Quiet(Hours):
    """Hours in which nothing is sent; what happens is evaluated and stored all the same."""

    then: Literal["hold", "drop"] = Field("hold", description="hold: sent when they end. drop: never sent")


class Rule(Section):
    """What has to happen at a camera for an alert."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(min_length=1, max_length=200)
    camera: Names = Field((), description="Names of cameras; none: all")
    classes: Names = Field((), alias="class", description="Classes of objects, by vote of all frames of the visit")
    confidence: float = Field(0.4, ge=0, le=1, description="Of a frame that counts")
    zone: Zone | None = Field(None, description="Polygon that the object's bottom centre is in, parts of the frame")
    line: Line | None = Field(None, description="Line that its bottom centre crosses")
    frames: Frames = Frames()
    dwell_s: float = Field(0, ge=0, le=7 * 86400, description="Seconds that it has been there, or in the zone")
    count: int = Field(1, ge=1, le=1000, description="So many of them at the same time")
    when: Hours | None = Field(None, description="Time of day and days")
    phrase: str | None = Field(None, min_length=1, max_length=200, description="Words that are said")
    within_s: float = Field(10, ge=0, le=3600, description="Seconds between the object and the phrase")
    tag: str | None = Field(None, min_length=1, max_length=200, description="A tag of the window, from the text bank")
    probability: float = Field(0.3, ge=0, le=1, description="Of the tag")
    absent: bool = Field(False, description="Fires at the end of the hours in which none was seen")
    cooldown_s: float = Field(
        0, ge=0, le=7 * 86400, description="After an alert of this rule and camera, further ones are not sent so long"
    )
    to: Names = Field((), description="Names of targets")

    @model_validator(mode="after")
    def _makes_sense(self) -> Rule:
        if not (self.classes or self.phrase or self.tag):
            raise ValueError("say what is looked for: class, phrase or tag")
        if self.tag and (self.classes or self.phrase):
            raise ValueError("a tag is of a whole window, and stands in a rule of its own")
        if not self.classes and (self.zone or self.line or self.dwell_s or self.count > 1 or self.absent):
            raise ValueError("zone, line, dwell_s, count and absent need a class")
        if self.absent and (self.when is None or self.line or self.phrase or self.count > 1 or self.dwell_s):
            raise ValueError("absent goes with class, zone and when; it needs the hours in `when`")
        if self.phrase and self.count > 1:
            raise ValueError("count and phrase do not go together")
        if self.phrase is not None and not words(self.phrase):
            raise ValueError("the phrase has no words")
        return self

    def digest(self, timezone: str) -> str:
        """Of what makes it fire, its name with it; whom it tells does not count, so a new target repeats no alert."""
        fields = self.model_dump(mode="json", exclude={"to", "cooldown_s"})
        text = json.dumps([VERSION, timezone, fields], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def watches(self, camera: str) -> bool:
        return not self.camera or camera in self.camera


class Target(Section):
    """Where alerts are sent: a webhook of ours, or any service that apprise knows."""

    webhook: str | None = Field(None, pattern=r"^(https?://|env:)", description="http(s) URL, or env:NAME")
    secret: str | None = Field(None, min_length=1, description="Key that signs the webhook's body, or env:NAME")
    url: str | None = Field(None, min_length=4, description="apprise URL (mailto://, slack://, twilio://), or env:NAME")
    quiet: Quiet | None = None

    @model_validator(mode="after")
    def _one(self) -> Target:
        if (self.webhook is None) == (self.url is None):
            raise ValueError("a target has either a webhook or an apprise url")
        if self.secret and self.url:
            raise ValueError("a secret signs a webhook; an apprise url carries its own credentials")
        return self


class Rules(Section):
    timezone: TimeZone = Field("UTC", description="Of all hours and days in the file")
    targets: dict[str, Target] = Field(default_factory=dict)
    quiet: Quiet | None = Field(None, description="For targets without hours of their own")
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _names(self) -> Rules:
        names = [rule.name for rule in self.rules]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two rules have one name: {', '.join(sorted(twice))}")
        return self


def words(text: str) -> list[str]:
    """Its words in lower case, without punctuation."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())


def read_rules(text: str, name: str = "rules") -> Rules:
    """The rules of a YAML file. Raises BadRules with `name:line: what is wrong` for every fault."""
    if len(text) > MOST_BYTES:
        raise BadRules(f"{name}: more than a megabyte is no file of rules")
    try:
        for token in yaml.scan(text, _Plain):
            if isinstance(token, yaml.AliasToken):  # a few of them could stand for a file of any size
                raise yaml.scanner.ScannerError(None, None, "rules have no aliases", token.start_mark)
        node = yaml.compose(text, _Plain)
        values = _values(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadRules(f"{name}:{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadRules(f"{name}: it is no YAML that rules are written in: {error}") from error
    try:
        found = Rules.model_validate(values)
    except ValidationError as error:
        faults = [(_line(node, fault["loc"]), _said(fault)) for fault in error.errors()]
        raise BadRules("\n".join(f"{name}:{line}: {said}" for line, said in sorted(set(faults)))) from error
    faults = [
        (_line(node, ("rules", number, "to")), f"rule {rule.name!r} names the target {target!r}, which is not defined")
        for number, rule in enumerate(found.rules)
        for target in rule.to
        if target not in found.targets
    ]
    if faults:
        raise BadRules("\n".join(f"{name}:{line}: {said}" for line, said in faults))
    return found


class _Plain(yaml.SafeLoader):
    """Scalars of YAML 1.2: `no` is a word and 22:00 is no number."""


_Plain.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("bool", r"^(?:true|false|True|False)$", "tfTF"),
    ("null", r"^(?:~|null|)$", "~n"),
):
    _Plain.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), [*_first, ""])


def _values(node: yaml.Node | None) -> Any:
    """What a node says. Raises ConstructorError for a key that comes twice."""
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_values(each) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                problem = f"{getattr(key, 'value', 'this')!r} stands here twice, or is no name"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            found[key.value] = _values(value)
        return found
    if node.tag == "tag:yaml.org,2002:int":
        return int(node.value)
    if node.tag == "tag:yaml.org,2002:float":
        return float(node.value)
    if node.tag == "tag:yaml.org,2002:bool":
        return node.value.lower() == "true"
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _line(node: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """Line of the innermost part of the file that a fault's place leads to."""
    line = node.start_mark.line + 1 if node else 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _said(fault: Any) -> str:
    place = ".".join(str(step) for step in fault["loc"] if not isinstance(step, int))
    if fault["type"] == "extra_forbidden":
        return f"{place}: there is no such field"
    return (
        f"{place}: {fault['msg'].removeprefix('Value error, ')}"
        if place
        else fault["msg"].removeprefix("Value error, ")
    )
