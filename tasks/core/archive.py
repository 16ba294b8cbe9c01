"""Zip archives (.pt, .npz) that take no more memory than they have bytes: what unpacks to gigabytes is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path


def check_stored(path: Path) -> list[zipfile.ZipInfo]:
    """The members of an archive in which every one is stored as it is, in bytes of its own.

    Raises ValueError where one is compressed, or they are larger together than the file; zipfile.BadZipFile for what is
    no archive; OSError.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError(f"{member.filename[:80]!r} in it is compressed")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its members are larger together than the file")
    return members
