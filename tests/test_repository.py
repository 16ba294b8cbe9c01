"""What may lie in the repository: declared and locked packages, a licence, no registry, no machine, no large file."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.source_tree import FIRST_PARTY, ROOT, imported, module_name, roots, sources

BUNDLED = "tasks/core/models/bundled/"
MIB = 2**20

# In pieces, so that this file does not name them either.
REGISTRIES = re.compile("|".join(re.escape(".".join(host)) for host in [
    ("pypi", "org"), ("pypi", "python", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"),
    ("npmjs", "org"), ("npmjs", "com"), ("anaconda", "org"), ("anaconda", "com"), ("crates", "io"),
]), re.IGNORECASE)  # fmt: skip
REGISTRY_OPTIONS = re.compile(r"^\s*(-i|--index-url|--extra-index-url|--find-links|-f)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.:/~$}*-])/(?:work|root|home|Users)/")


@cache
def repository_files() -> list[Path]:
    """Files that git tracks or would add; what it ignores is nobody's business."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"needs a git checkout: {done.stderr.strip()}")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_lines() -> Iterator[tuple[str, int, str]]:
    for path in repository_files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield path.relative_to(ROOT).as_posix(), number, line


def project() -> dict[str, object]:
    loaded: dict[str, dict[str, object]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return loaded["project"]


def declared() -> list[Requirement]:
    table = project()
    extras = table["optional-dependencies"]
    assert isinstance(extras, dict)
    assert isinstance(table["dependencies"], list)
    return [
        Requirement(text) for text in [*table["dependencies"], *(text for extra in extras.values() for text in extra)]
    ]


BESIDE_THE_LOCK = {"benchmarks": "bench.in", "docs": "docs.in"}
"""What only these folders import; no test needs it, so it may not be installed."""


def beside_the_lock(folder: str) -> set[str]:
    lines = (ROOT / "requirements" / BESIDE_THE_LOCK[folder]).read_text("utf-8").splitlines()
    return {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("#")}


def test_every_import_is_a_declared_dependency() -> None:
    known = {canonicalize_name(requirement.name) for requirement in declared()}
    extra = {folder: beside_the_lock(folder) for folder in BESIDE_THE_LOCK}
    owners = dict(packages_distributions())
    for name in set().union(*extra.values()):
        owners.setdefault(name.replace("-", "_"), [name])
    undeclared = {
        f"{module_name(path)}: {root}"
        for folder in FIRST_PARTY
        for path in sources(folder)
        for root in roots(imported(path)) - FIRST_PARTY - set(sys.stdlib_module_names)
        if not (known | extra.get(folder, set())) & {canonicalize_name(owner) for owner in owners.get(root, [])}
    }
    assert undeclared == set()


def test_the_lock_fits_the_project_and_hashes_everything() -> None:
    lock = (ROOT / "requirements" / "lock.txt").read_text("utf-8")
    entries = re.findall(
        r"^([a-z0-9-]+)==(\S+)[^\n]*((?:\n {4}--hash=sha256:[0-9a-f]{64}(?: \\)?)*)", lock, re.MULTILINE
    )
    versions = {name: version for name, version, hashes in entries if hashes}
    assert len(versions) == len(re.findall(r"^[a-z]", lock, re.MULTILINE)), "one version of each, all hashed"
    stale = [
        str(requirement)
        for requirement in declared()
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert stale == [], "run `make lock`"


def test_the_licence_is_declared_and_complete() -> None:
    assert project()["license"] == "AGPL-3.0-or-later"
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert text.lstrip().startswith("GNU AFFERO GENERAL PUBLIC LICENSE")
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_file_names_a_package_registry() -> None:
    assert REGISTRIES.search("https://files.python" + "hosted.org/packages")
    named = [f"{name}:{number}" for name, number, line in text_lines() if REGISTRIES.search(line)]
    options = [
        f"{name}:{number}"
        for name, number, line in text_lines()
        if name.startswith("requirements/") and REGISTRY_OPTIONS.match(line)
    ]
    assert named + options == []


def test_no_file_holds_a_path_of_one_machine() -> None:
    """Paths inside an image (infra/) belong to the image."""
    assert MACHINE_PATHS.search("open('/" + "work/main/x')")
    assert not MACHINE_PATHS.search("s3://bucket/work/x")
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, number, line in text_lines()
        if not name.startswith("infra/") and MACHINE_PATHS.search(line)
    ]
    assert found == []


def test_large_files_are_the_bundled_models_and_sample() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in repository_files()}
    bundled = {name: size for name, size in sizes.items() if name.startswith(BUNDLED)}
    assert {name: size for name, size in sizes.items() if size > 2 * MIB and name not in bundled} == {}
    assert sum(size for name, size in bundled.items() if name.endswith(".pt")) <= 8_000_000
    assert all(size <= 1_000_000 for name, size in bundled.items() if name.endswith(".mp4"))


def test_every_top_level_folder_has_a_readme() -> None:
    names = [path.relative_to(ROOT).parts for path in repository_files()]
    folders = {parts[0] for parts in names if len(parts) > 1 and not parts[0].startswith(".")}
    assert folders >= FIRST_PARTY
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "README.md").is_file()] == []


def test_hooks_download_nothing_and_call_what_the_environment_has() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert {repo["repo"] for repo in repos} == {"local"}
    hooks = [hook for repo in repos for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {"ruff", "ruff-format", "mypy"} <= {hook["id"] for hook in hooks}
    programs = [Path(hook["entry"].split()[0]) for hook in hooks]
    assert {program.parent.as_posix() for program in programs} == {".venv/bin"}
    assert [program.name for program in programs if not (Path(sys.executable).parent / program.name).exists()] == []
