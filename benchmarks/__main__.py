"""`python -m benchmarks NAME`: one file per metric, each checks its output before it reports a time."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """Runs the named benchmark with the remaining arguments; without a name, lists them."""
    names = {m.name: m for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")}
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print("usage: python -m benchmarks NAME [--help]\n")
        for name in sorted(names):
            summary = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip().splitlines()[0]
            print(f"  {name:<16} {summary}")
        return 0 if len(sys.argv) < 2 else 2
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
