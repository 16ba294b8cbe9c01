"""Images by digest: what a tag of another's image means today, written where compose finds it.

    python -m infra.pins            # asks the registry through docker, writes infra/.env
    python -m infra.pins --check    # exit status 1 and the names of those that are not pinned there

A tag can be given another image; a digest cannot. So a deployment that was tried is pinned once, and moved on purpose.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SETTINGS = FOLDER / ".env"

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
ASK = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")


def images(compose: str) -> dict[str, str]:
    """Variables of compose.yaml that name images of others, with the tag that each has without being set."""
    found = dict(re.findall(r"\$\{(\w+_IMAGE):-([^}]+)\}", compose))
    return {name: image for name, image in found.items() if not image.startswith("reelflow:")}


def pinned(settings: str) -> dict[str, str]:
    """Variables of an .env file that name an image by its digest."""
    found = dict(re.findall(r"^(\w+_IMAGE)=(\S+)$", settings, re.MULTILINE))
    return {name: image for name, image in found.items() if DIGEST.search(image)}


def with_pins(settings: str, pins: dict[str, str]) -> str:
    """The text of an .env file in which these variables have these values."""
    kept = [line for line in settings.splitlines() if line.partition("=")[0] not in pins]
    return "\n".join([*kept, *(f"{name}={image}" for name, image in pins.items())]) + "\n"


def digest(image: str) -> str:
    """What a tag means in its registry today. Raises SystemExit where docker or the registry does not say."""
    try:
        done = subprocess.run([*ASK, image], capture_output=True, text=True, timeout=120)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"The digest of {image} is not known here, nothing was written: {error}") from error
    answer = "@" + done.stdout.strip()
    if done.returncode or not DIGEST.fullmatch(answer):
        said = (done.stderr or done.stdout).strip()
        raise SystemExit(f"The digest of {image} is not known here, nothing was written: {said}")
    return image + answer


def main() -> None:
    """Entry point."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="change nothing")
    given = arguments.parse_args()
    settings = SETTINGS.read_text("utf-8") if SETTINGS.exists() else ""
    wanted = images((FOLDER / "compose.yaml").read_text("utf-8"))
    if given.check:
        known = pinned(settings)
        missing = [f"{name} ({image})" for name, image in wanted.items() if name not in known]
        raise SystemExit(f"Not pinned in infra/.env: {', '.join(missing)}; see `make pins`." if missing else 0)
    pins = {name: digest(image) for name, image in wanted.items()}
    SETTINGS.touch(mode=0o600)
    SETTINGS.write_text(with_pins(settings, pins), "utf-8")
    print("\n".join(f"{name}={image}" for name, image in pins.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
