"""One alert for each visit in the store and one message for each alert, whoever is killed where."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.alerts import AlertsReport, run_once
from tasks.alerts import replay, stored_alerts
from tasks.core.alerts.rules import Rules, read_rules
from tasks.records.deliveries import deliveries_of
from tasks.store import Store, open_store
from tasks.store.folder import FolderStore
from tests.core.tracking.scenes import START, parked, walker, windows
from tests.tasks.recordings import analyse_all, record

SCENE = {"person": [walker(1, 9), walker(14, 22)], "car": [parked()]}
SECRET = "of the test"


class Receiver:
    """A webhook's other end: what it was told, and what it answers."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.raw: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def keys(self) -> set[str]:
        return {body["key"] for body in self.bodies}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            found.raw.append((dict(self.headers.items()), content))
            found.bodies.append(json.loads(content))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOOK", f"http://127.0.0.1:{server.server_port}/alerts")
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    yield found
    server.shutdown()


def rules(more: str = "", fields: str = "class: person") -> Rules:
    return read_rules(
        f"targets: {{hook: {{webhook: 'env:HOOK', secret: 'env:HOOK_SECRET'}}}}\n{more}\n"
        f"rules:\n  - {{name: r, {fields}, to: hook}}\n"
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    made = windows(SCENE, until=30)
    analyse_all(store, record(tmp_path / "rec", made), made)
    return store


def run(tmp_path: Path, store: Store, found: Rules) -> AlertsReport:
    return run_once(str(tmp_path / "rec"), store, found, lambda _: None, lambda _: None)


def test_one_message_for_each_visit_and_none_when_run_again(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    report = run(tmp_path, store, rules())
    assert (report.windows, report.alerts, report.sent) == (10, 2, 2)
    again = run(tmp_path, store, rules())
    assert (again.windows, again.alerts, again.sent) == (0, 0, 0)
    assert len(receiver.bodies) == len(receiver.keys) == 2
    assert list(store.list("alerts/open")) == []
    alerts = list(stored_alerts(store))
    assert sorted(body["id"] for body in receiver.bodies) == sorted(alert.id for alert in alerts)
    assert [row.state for alert in alerts for row in deliveries_of(store, alert.id)] == ["sent", "sent"]
    assert sorted(alert.id for alert in replay(store, rules(), "gate", 0, float("inf"))) == sorted(
        alert.id for alert in alerts
    )
    assert len(receiver.bodies) == 2


def test_the_receiver_can_check_who_sent_it(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    run(tmp_path, store, rules())
    headers, content = receiver.raw[0]
    moment, mac = (part.partition("=")[2] for part in headers["Reelflow-Signature"].split(","))
    assert hmac.new(SECRET.encode(), f"{moment}.".encode() + content, hashlib.sha256).hexdigest() == mac
    assert abs(int(moment) - time.time()) < 60
    assert headers["Idempotency-Key"] == json.loads(content)["key"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("method", ["write", "commit", "delete"])
def test_a_kill_anywhere_adds_no_alert_and_loses_none(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Killed before or after some calls, and each of the last four. What may have arrived comes again, marked so."""
    made = windows({"person": [walker(1, 5), walker(10, 14)]}, until=18)
    paths = record(tmp_path / "rec", made)
    real: Callable[..., Any] = getattr(FolderStore, method)
    count = [0, 0]

    def killed(self: FolderStore, *arguments: Any) -> Any:
        count[0] += 1
        if count[0] == count[1]:
            raise Killed
        done = real(self, *arguments)
        if count[0] == -count[1]:
            raise Killed
        return done

    def trial(at: int) -> set[str]:
        receiver.bodies.clear()
        store = open_store(str(tmp_path / f"store{at}"))
        analyse_all(store, paths, made)
        count[:] = [0, at]
        with monkeypatch.context() as patch, suppress(Killed):
            patch.setattr(FolderStore, method, killed)
            run(tmp_path, store, rules())
        run(tmp_path, store, rules())
        assert len(list(stored_alerts(store))) == 2
        assert list(store.list("alerts/open")) == []
        first = [body["key"] for body in receiver.bodies if not body["after_unknown_outcome"]]
        assert len(first) == len(set(first)), "only what is marked may be a repetition"
        assert len(receiver.bodies) - len(first) <= 1
        return receiver.keys

    calm = trial(0)
    total = count[0]
    assert len(calm) == 2
    for at in [*range(1, total - 3, 4), *range(max(1, total - 3), total + 1)]:
        assert trial(at) == calm
        assert trial(-at) == calm


def test_runs_side_by_side_send_each_message_once(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: run(tmp_path, store, rules()), range(4)))
    assert sum(report.sent for report in reports) == 2
    assert len(receiver.bodies) == len(receiver.keys) == len(list(stored_alerts(store))) == 2


def test_in_a_bucket(tmp_path: Path, bucket: str, receiver: Receiver) -> None:
    store = open_store(f"s3://{bucket}/reelflow")
    made = windows(SCENE, until=30)
    analyse_all(store, record(tmp_path / "rec", made), made)
    assert run(tmp_path, store, rules()).sent == 2
    assert run(tmp_path, store, rules()).sent == 0
    assert len(receiver.bodies) == len(list(stored_alerts(store))) == 2
    folder = open_store(str(tmp_path / "folder"))
    analyse_all(folder, record(tmp_path / "rec", made), made)
    run(tmp_path, folder, rules())
    assert [alert.id for alert in stored_alerts(store)] == [alert.id for alert in stored_alerts(folder)]


def test_what_is_refused_for_a_while_is_sent_later(
    tmp_path: Path, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [503, 429]
    assert run(tmp_path, store, rules()).sent == 0
    assert run(tmp_path, store, rules()).sent == 0, "not before the pause has passed"
    now = time.time()
    monkeypatch.setattr("tasks.records.deliveries.deliver.__defaults__", (lambda: now + 60,))
    assert run(tmp_path, store, rules()).sent == 2
    later = receiver.bodies[2:]
    assert len(receiver.keys) == 2
    assert sorted(body["after_unknown_outcome"] for body in later) == [False, True], "a 503 may have been too late"


def test_what_is_refused_for_good_is_said_and_not_tried_again(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    receiver.answers = [404, 410]
    report = run(tmp_path, store, rules())
    assert [failure.partition(":")[0] for failure in report.failed] == ["hook", "hook"]
    assert run(tmp_path, store, rules()).failed == []
    assert len(receiver.bodies) == 2


@pytest.mark.parametrize(("then", "state"), [("hold", "held"), ("drop", "dropped")])
def test_quiet_hours_hold_or_drop_messages_not_alerts(
    tmp_path: Path, store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, then: str, state: str
) -> None:
    run(tmp_path, store, rules(f"quiet: {{from: '00:00', to: '00:00', then: {then}}}"))
    alerts = list(stored_alerts(store))
    assert [row.state for alert in alerts for row in deliveries_of(store, alert.id)] == [state] * 2
    assert receiver.bodies == []
    again = run(tmp_path, store, rules())
    assert (again.sent, len(receiver.bodies)) == (0, 0), "held until they end, dropped for ever"
    if then == "hold":
        now = time.time()
        monkeypatch.setattr("tasks.records.deliveries.deliver.__defaults__", (lambda: now + 86400,))
        assert run(tmp_path, store, rules()).sent == 2


def test_a_cooldown_is_in_the_ledger(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    run(tmp_path, store, rules(fields="class: person, cooldown_s: 600"))
    states = [row.state for alert in stored_alerts(store) for row in deliveries_of(store, alert.id)]
    assert sorted(states) == ["cooldown", "sent"]
    assert len(receiver.bodies) == 1


def test_a_lost_state_brings_no_alert_again(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    run(tmp_path, store, rules())
    for path in list(store.list("alerts/state")):
        store.delete(path)
    assert run(tmp_path, store, rules()).alerts == 0
    assert len(receiver.bodies) == 2


def test_replay_of_a_stretch(tmp_path: Path, store: Store, receiver: Receiver) -> None:
    run(tmp_path, store, rules(fields="class: car"))
    assert [round(alert.start - START) for alert in replay(store, rules(), "gate", START + 10, START + 30)] == [14]
    assert len(list(stored_alerts(store))) == 1
