"""`python -m flows message` and `messages`: ask as people do by text message, and take such messages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import EXIT_FAILED, Store

Config = Annotated[
    Path | None, typer.Option("--config", metavar="ROOMS.yaml", help="File of rooms, senders and recordings")
]


def message(
    text: Annotated[str, typer.Argument(help='status, "report today", cleaning, "clean room 2"')],
    config: Config = None,
    store: Store = None,
    sender: Annotated[str, typer.Option("--from", metavar="NAME", help="Who says so, of a room that was cleaned")] = "",
) -> None:
    """Ask what can be asked by text message, and get the same answer.

    Examples: `message status`, `message "report yesterday gate"`, `message "clean room 2" --config rooms.yaml`.
    """
    import secrets
    import time

    from flows.cli.console import say
    from flows.messages.answers import Answers, Sent, load_book
    from tasks.activity import report_folder
    from tasks.core.messages.book import Book
    from tasks.settings import settings
    from tasks.store import MOST_LINK_S, open_existing

    book = load_book(config) if config else Book()
    root = open_existing(store or settings().store)
    task = Answers(root, book).take(Sent(text, secrets.token_hex(16), sender or "command line", time.time()))
    say(task.work())
    if task.page:
        say(root.link(f"{report_folder(task.page)}/report.html", MOST_LINK_S))


def messages(
    config: Annotated[Path, typer.Option("--config", metavar="ROOMS.yaml", help="File of rooms and senders")],
    store: Store = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen")] = "127.0.0.1:8730",
    public_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="What it is called from outside: https://host/path, as Twilio has it"),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the file: every fault with its line")] = False,
) -> None:
    """Take messages by Twilio's SMS webhook (/sms) and by signed calls (/messages), and answer them.

    REELFLOW_TWILIO_AUTH_TOKEN and REELFLOW_MESSAGES_TOKEN are what callers prove themselves with. It listens on
    loopback: put a proxy that speaks TLS in front, and say its address with --public-url.
    """
    import signal
    import threading

    from flows.cli.console import say
    from flows.messages.answers import load_book
    from tasks.settings import settings
    from tasks.store import open_existing

    book = load_book(config)
    if check:
        for room, about in book.rooms.items():
            where = f"{about.camera}, a zone of it" if about.zone else about.camera
            say(f"{room}: {where}; {', '.join(about.classes)}")
        return
    if public_url and not public_url.startswith(("https://", "http://")):
        raise typer.BadParameter("--public-url begins with https://")
    from flows.messages.run import serve

    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    serve(open_existing(store or settings().store), book, listen, public_url, say, stopping)
    raise typer.Exit(0 if stopping.is_set() else EXIT_FAILED)
