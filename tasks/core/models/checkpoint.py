"""Is it safe to read a PyTorch checkpoint? Its file, what it calls when it is read, and the tensors that came of it.

torch's restricted unpickler lets known functions and classes through, with any arguments: the constructor of a layer
allocates what it is told, and that of a torchvision layer downloads. A network that was saved holds no such call, only
finished objects, so whatever calls anything but what puts tensors and containers together is refused.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.archive import check_stored
from tasks.core.errors import BadModel

if TYPE_CHECKING:
    import torch

MOST_PICKLE_BYTES = 8 * 2**20
"""Of the description of a network, without its weights; the largest published ones have 1 MB."""

CALLED = frozenset(
    {
        "__builtin__ set",
        "_codecs encode",
        "builtins set",
        "collections OrderedDict",
        "pathlib PosixPath",
        "pathlib WindowsPath",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor_v2",
        "numpy dtype",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
    }
)
"""Functions that may be called; besides, all names right in `torch`, which are types of storages and sizes."""

_PUTS = frozenset({"BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"BINGET", "LONG_BINGET"})
_REFUSED = frozenset(
    {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "DUP", "PUT", "GET", "MEMOIZE", "EXT1", "EXT2", "EXT4"}
)
"""Other ways to name or call something than those of torch.save."""


def check_checkpoint(path: Path) -> None:
    """Before it is read. Raises BadModel where that could take more memory than it has bytes, or run something."""
    again = "get it again from its publisher, or save it again with a present torch"
    try:
        pickles = [member for member in check_stored(path) if member.filename.endswith(".pkl")]
        for member in pickles:
            if member.file_size > MOST_PICKLE_BYTES:
                raise ValueError(f"{member.filename[:80]!r} in it has {member.file_size} bytes")
            with zipfile.ZipFile(path) as archive:
                _check_calls(archive.read(member))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadModel(f"{path.name} was not loaded: it is no sound checkpoint ({error}); {again}") from error


def check_tensors(path: Path, tensors: Iterable[torch.Tensor]) -> None:
    """After it was read, before anything is computed. Raises BadModel where views make small weights large."""
    distinct = {id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}
    if sum(distinct.values()) > path.stat().st_size:
        raise BadModel(
            f"{path.name} was not loaded: its tensors say that they are larger than the file; get it again from its "
            "publisher"
        )


def _check_calls(pickled: bytes) -> None:
    """Each class is followed at once by the making of an empty object of it; only what is in CALLED may do else."""
    classes: dict[str, str] = {}
    expected: list[str] = []
    pending = ""
    for operation, found, _ in pickletools.genops(pickled):
        name, argument = operation.name, str(found)
        if name in _REFUSED:
            raise ValueError(f"it holds {name}, which no network does")
        if name in _PUTS:
            if pending and expected == ["EMPTY_TUPLE", "NEWOBJ"]:
                classes[argument] = pending
            else:
                classes.pop(argument, None)
            continue
        if expected:
            if name != expected.pop(0):
                raise ValueError(f"it uses {pending}, which could run code and is no part of a saved network")
            continue
        pending = ""
        if name == "GLOBAL" and not _may_be_called(argument):
            pending, expected = argument, ["EMPTY_TUPLE", "NEWOBJ"]
        elif name in _GETS and argument in classes:
            pending, expected = classes[argument], ["EMPTY_TUPLE", "NEWOBJ"]
        elif name == "NEWOBJ":
            raise ValueError("it makes an object of nothing")


def _may_be_called(name: str) -> bool:
    return name in CALLED or (name.startswith("torch ") and "." not in name)
