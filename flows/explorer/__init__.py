"""The explorer: a web page to find moments in a store and watch them. `python -m flows explore` serves it."""

from flows.explorer.app import create_app
from flows.explorer.server import serve

__all__ = ["create_app", "serve"]
