"""Alerts in a store: each rule follows each camera's tracked windows, and what fires is a row that is written once.

    alerts/rows/camera=NAME/DAY/ID.json            an alert; ID depends on the rule and the visit alone
    alerts/state/RULE_DIGEST/camera=NAME.json      how far a rule has come, and what it remembers
    alerts/open/ID.TARGET.json                     something is to be sent; goes when its ledger row says that it ended
    alerts/deliveries/ID/TARGET.json               the ledger: attempts and outcome of one alert at one target

Rows are made before a rule's state moves on, so whoever is killed in between makes the same rows again, and finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from pydantic import ValidationError

from tasks.core.alerts.evaluate import Alert, Facts, Phrase, RuleState, evaluate
from tasks.core.alerts.message import picture
from tasks.core.alerts.rules import Rule, Rules
from tasks.core.errors import DamagedArtifact, StoreConflict
from tasks.core.frame_batch import load_encoded_frames, load_frame_times
from tasks.core.records import json_bytes
from tasks.core.schema import ArtifactRef
from tasks.core.tracking.records import Place, TrackedWindow
from tasks.core.tracking.rows import moment
from tasks.records.artifacts import artifact_file
from tasks.records.deliveries import open_delivery
from tasks.records.results import read_result
from tasks.stages.vision import FRAMES
from tasks.store import Store
from tasks.visits import tracked_windows


def replay(store: Store, rules: Rules, camera: str, since: float, until: float) -> Iterator[Alert]:
    """What the rules would have fired between two moments (Unix time), in order of windows; stores and sends nothing.

    Tracked windows of before are followed too, so that visits which began there are known.
    """
    states = {rule.name: RuleState() for rule in rules.rules if rule.watches(camera)}
    for tracked in tracked_windows(store, camera):
        if tracked.window.start >= until:
            return
        facts = _facts(store, rules.rules, tracked)
        for rule in rules.rules:
            if rule.name in states:
                fired, states[rule.name] = evaluate(rule, rules.timezone, tracked, facts, states[rule.name])
                yield from (alert for alert in fired if since <= alert.time < until)


def run_rules(store: Store, rules: Rules, camera: str) -> Iterator[Alert]:
    """Follows the camera's tracked windows from where each rule has come to; yields the alerts that are new.

    Safe to be killed, run again and run beside itself: no alert comes twice.
    """
    watching = [rule for rule in rules.rules if rule.watches(camera)]
    states = {rule.name: _read_state(store, rules, rule, camera) for rule in watching}
    if not watching:
        return
    for tracked in tracked_windows(store, camera, min(state.label for state, _ in states.values())):
        behind = [rule for rule in watching if states[rule.name][0].label < tracked.window.label]
        facts = _facts(store, behind, tracked)
        for rule in behind:
            state, tag = states[rule.name]
            fired, after = evaluate(rule, rules.timezone, tracked, facts, state)
            for alert in fired:
                if _store(store, rules, rule, alert):
                    yield alert
            path = _state_path(rules, rule, camera)
            try:
                store.commit(path, json_bytes(after), tag)
            except StoreConflict:  # another run has come further
                states[rule.name] = _read_state(store, rules, rule, camera)
                continue
            states[rule.name] = (after, (store.read(path) or (b"", None))[1])


def stored_alerts(
    store: Store, since: float = 0.0, until: float = float("inf"), camera: str | None = None
) -> Iterator[Alert]:
    """The alerts that are stored, of one camera or of all, by camera and day on which their visits began."""
    last = f"{moment(until):%Y-%m-%d}" if until < float("inf") else "~"
    for path in store.list("alerts/rows" if camera is None else f"alerts/rows/camera={quote(camera, safe='')}"):
        if path.split("/")[-2] > last:
            continue
        found = store.read(path)
        try:
            alert = Alert.model_validate_json(found[0]) if found else None
        except ValidationError as error:
            raise DamagedArtifact(f"{store.uri(path)} holds no alert", detail=str(error)) from error
        if alert and since <= alert.time < until:
            yield alert


def read_alert(store: Store, path: str) -> Alert | None:
    found = store.read(path)
    return Alert.model_validate_json(found[0]) if found else None


def alert_path(alert: Alert) -> str:
    return f"alerts/rows/camera={quote(alert.camera, safe='')}/{moment(alert.start):%Y-%m-%d}/{alert.id}.json"


def _store(store: Store, rules: Rules, rule: Rule, alert: Alert) -> bool:
    """Makes the row and what is to be sent, unless they are there; is the alert new?"""
    path, new = alert_path(alert), True
    if store.size(path) is not None:
        new = False
    else:
        alert = alert.model_copy(update={"image": _picture(store, alert)})
        try:
            store.commit(path, json_bytes(alert), None)
        except StoreConflict:
            new = False
    for name in rule.to:
        open_delivery(store, path, alert, name)
    return new


def _picture(store: Store, alert: Alert) -> str | None:
    """Stores the frame at which the rule fired, with the box; its path, None where there is no such frame."""
    if alert.media_id is None or alert.media_time is None:
        return None
    drawn = sampled_picture(store, alert.media_id, alert.media_time, alert.box)
    if drawn is None:
        return None
    path = image_path(alert.id)
    store.write(path, drawn)
    return path


def image_path(alert_id: str) -> str:
    return f"alerts/images/{alert_id}.jpg"


def sampled_picture(store: Store, media_id: str, time: float, box: Place | None) -> bytes | None:
    """JPEG of the frame that was sampled at a second of a media, with a box drawn; None where it is not kept.

    Raises DamagedArtifact, StoreUnavailable.
    """
    found = read_result(store, media_id)
    for name, uri in found[0].artifacts.items() if found else ():
        if not name.startswith("frames/"):
            continue
        owner, stage, key = uri.rsplit("/", 3)[1:]
        batch = artifact_file(ArtifactRef(media_id=owner, stage=stage, key=key, uri=uri, store=store.address), FRAMES)
        times = load_frame_times(batch)[1]
        if time in times:
            return picture(load_encoded_frames(batch)[times.index(time)], box)
    return None


def _facts(store: Store, rules: Iterable[Rule], tracked: TrackedWindow) -> Facts:
    """What was said in the window and what it shows, where a rule asks for it."""
    media_id = tracked.window.media_id
    if media_id is None or not any(rule.phrase or rule.tag for rule in rules):
        return Facts()
    found = read_result(store, media_id)
    if found is None:
        raise DamagedArtifact(f"The result of {tracked.window.source} is gone; analyse it again.")
    begin = tracked.window.start
    return Facts(
        phrases=tuple(
            Phrase(start=round(begin + each.start, 3), end=round(begin + each.end, 3), text=each.text.strip())
            for each in found[0].transcript.segments
        ),
        tags={tag.text: tag.probability for tag in found[0].tags},
    )


def _read_state(store: Store, rules: Rules, rule: Rule, camera: str) -> tuple[RuleState, str | None]:
    path = _state_path(rules, rule, camera)
    found = store.read(path)
    if found is None:
        return RuleState(), None
    try:
        return RuleState.model_validate_json(found[0]), found[1]
    except ValidationError as error:
        raise DamagedArtifact(
            f"{store.uri(path)} cannot be read; delete it: the rule then goes through the windows again, and no alert "
            "comes twice",
            detail=str(error),
        ) from error


def _state_path(rules: Rules, rule: Rule, camera: str) -> str:
    return f"alerts/state/{rule.digest(rules.timezone)}/camera={quote(camera, safe='')}.json"
