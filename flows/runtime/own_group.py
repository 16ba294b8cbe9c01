"""Dask worker preload of the local cluster: Ctrl-C in a terminal is for the flow, which ends its workers in order."""

from __future__ import annotations

import os
from typing import Any


def dask_setup(worker: Any) -> None:
    """Called by Dask when a worker starts."""
    os.setpgrp()
