from pathlib import Path

import pytest

from flows.cli.find import Finder
from tasks.core.errors import StoreUnavailable
from tasks.core.search import Query


def test_a_store_that_does_not_exist_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"There is no store at .*nowhere"):
        Finder(str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []
    assert Finder(str(tmp_path))(Query(text="anything")) == []
