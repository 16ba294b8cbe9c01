"""`python -m flows alerts`: check, replay, run and test rules over cameras."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import Store
from flows.cli.when import moment

if TYPE_CHECKING:
    from tasks.core.alerts.evaluate import Alert

RULES_HELP = r"""Tell people what cameras see: each visit gives one alert, whatever dies in between.

Write a file of rules, for example rules.yaml:

\b
timezone: Europe/Berlin
targets:
  log: {webhook: "https://example.org/alerts", secret: "env:KEY"}
  mail: {url: "env:MAIL_URL"}   # of apprise: mailto://, slack:// ...
rules:
  - name: person at the back door at night
    camera: back-door
    class: person               # or \[person, dog]
    zone: [[0.2, 0.5], [0.8, 0.5], [0.8, 1]]   # parts of the frame
    frames: {k: 3, n: 5}        # seen in 3 of 5 sampled frames
    dwell_s: 2
    when: {from: "22:00", to: "06:00", days: \[fri, sat]}
    cooldown_s: 60
    to: \[log, mail]

More fields: confidence, count, line {points, to}, phrase, within_s, tag, probability, absent. Targets have quiet hours:
quiet {from, to, days, then: hold or drop}.

`alerts check rules.yaml`, then `alerts test rules.yaml` to try the targets, then
`alerts run s3://bucket/recordings/ --rules rules.yaml --every 2`. `alerts replay rules.yaml` tries a rule on the past.
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=RULES_HELP)

RulesFile = Annotated[Path, typer.Argument(metavar="RULES.yaml", help="File of rules")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per alert on stdout, nothing else there")]


@app.command()
def check(rules: RulesFile) -> None:
    """Check a file of rules: every fault with its line."""
    from flows.alerts import load_rules
    from flows.cli.console import say

    found = load_rules(rules)
    for rule in found.rules:
        where = ", ".join(rule.camera) or "every camera"
        say(f"{rule.name}: {where}; to {', '.join(rule.to) or 'nobody, it is only stored'}")


@app.command()
def replay(
    rules: RulesFile,
    store: Store = None,
    since: Annotated[datetime | None, typer.Option("--from", parser=moment, metavar="TIME", help="A day, 7d")] = None,
    until: Annotated[datetime | None, typer.Option("--to", parser=moment, metavar="TIME", help="Before this")] = None,
    json_lines: AsJson = False,
) -> None:
    """Say what rules would have fired over the windows that `run` has tracked; nothing is stored or sent."""
    from flows.alerts import load_rules, replayed
    from flows.cli.console import say
    from tasks.core.alerts.message import line
    from tasks.settings import settings
    from tasks.store import open_existing

    found, count = load_rules(rules), 0
    root = open_existing(store or settings().store)
    begin, end = since.timestamp() if since else 0.0, until.timestamp() if until else float("inf")
    for alert in replayed(root, found, begin, end):
        count += 1
        print(json.dumps(line(alert) | {"deliveries": []})) if json_lines else show(alert)
    say(f"{count} alerts would have fired.", err=json_lines)


@app.command()
def run(
    prefix: Annotated[str, typer.Argument(help="Where `ingest` puts the windows: s3://bucket/prefix or a folder")],
    rules: Annotated[Path, typer.Option("--rules", metavar="RULES.yaml", help="File of rules")],
    store: Store = None,
    every: Annotated[float | None, typer.Option(min=0.2, metavar="S", help="Again every so many seconds")] = None,
    json_lines: AsJson = False,
) -> None:
    """Follow cameras: visits of what is analysed, alerts of the rules, messages to the targets.

    Stop it, kill it, start it again or beside itself: no alert comes twice. Exit status 1 where a message came to
    no good end.
    """
    from flows.alerts import AlertsReport, as_line, follow, load_rules, run_once
    from flows.cli.console import say
    from tasks.records.deliveries import Delivery
    from tasks.settings import settings
    from tasks.store import open_store

    found = load_rules(rules)
    root = open_store(store or settings().store)
    new: list[Alert] = []

    def heard(alert: Alert) -> None:
        new.append(alert) if json_lines else show(alert)

    def told(delivery: Delivery) -> None:
        if not json_lines:
            attempt = f"{delivery.attempts[-1].outcome} {delivery.attempts[-1].said}" if delivery.attempts else ""
            say(f"  {delivery.target}: {delivery.state} {delivery.why or attempt}")

    def round_() -> AlertsReport:
        report = run_once(prefix, root, found, heard, told)
        for alert in new:
            print(json.dumps(as_line(root, alert)), flush=True)
        new.clear()
        return report

    said: set[str] = set()
    for report in follow(round_, every) if every else [round_()]:
        for notice in [*report.waiting, *(f"late, in no visit: {source}" for source in report.late)]:
            if notice not in said:
                say(notice, err=True, style="yellow")
        said = set(report.waiting) | {f"late, in no visit: {source}" for source in report.late}
        for failure in report.failed:
            say(failure, err=True, style="red")
        if not every:
            say(report.sentence(), err=json_lines)
            raise typer.Exit(1 if report.failed else 0)


@app.command("test")
def try_targets(rules: RulesFile) -> None:
    """Send a made-up alert to every target of a file, and say what came of it."""
    from flows.alerts import load_rules, trial
    from flows.cli.console import say

    worst = 0
    for name, outcome in trial(load_rules(rules)):
        good = outcome.startswith("sent")
        say(f"{name}: {outcome}", style="green" if good else "red")
        worst = max(worst, 0 if good else 1)
    raise typer.Exit(worst)


def show(alert: Alert) -> None:
    """An alert as lines for a person."""
    from flows.cli.console import say
    from tasks.core.alerts.message import line, rfc3339

    held = "  (held back: cooldown)" if alert.cooldown else ""
    say(f"{rfc3339(alert.time)}  {alert.rule}  {alert.camera}  {alert.why}{held}", style="bold")
    say(f"  {line(alert)['clip']}")
