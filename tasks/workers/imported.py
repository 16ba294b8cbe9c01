"""Importing this imports what every worker needs: once, in the process that a host's workers are forked from."""

from __future__ import annotations

from tasks.preload import import_all

import_all(gpu=True)
