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

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from tasks.core.alerts.clock import Hours, TimeZone
from tasks.core.alerts.place import Line, Zone
from tasks.core.options import Section
from tasks.core.written import BadFile, Place, read_file

VERSION: Final = 1
"""Part of every rule's digest: raised when the same rule fires at other moments than before."""


class BadRules(BadFile):
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
    found, lines = read_file(text, Rules, name, BadRules)
    faults: list[tuple[Place, str]] = [
        (("rules", number, "to"), f"rule {rule.name!r} names the target {target!r}, which is not defined")
        for number, rule in enumerate(found.rules)
        for target in rule.to
        if target not in found.targets
    ]
    if faults:
        raise BadRules(lines.faults(faults))
    return found
