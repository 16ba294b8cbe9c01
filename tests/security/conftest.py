"""What is attacked: a run of its own with its server and cluster."""

from tests.flows.conftest import engine

__all__ = ["engine"]
