"""A bank's file is checked before a model sees it; its vectors come back from their file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.core.bank_vectors import embed_bank, load_vectors, save_vectors
from tasks.core.errors import BadTextBank, DamagedArtifact
from tasks.core.text_bank import TextBank, read_bank, resolve_bank


def lengths(texts: Sequence[str]) -> np.ndarray:
    """A stand-in for a network: unit vectors by the texts' letters."""
    rows = np.asarray([[text.count(letter) + 0.1 for letter in "abcdefgh"] for text in texts], np.float32)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)) if len(texts) else np.zeros((0, 8), np.float32)


@pytest.mark.parametrize("bundled", [True, False])
def test_the_banks_that_come_with_reelflow(bundled: bool) -> None:
    bank = read_bank(resolve_bank("auto", None, bundled=bundled))
    assert bank.name == ("shapes" if bundled else "default")
    assert len(bank.tags) >= 14
    assert len(bank.descriptions) >= 30


def test_a_tag_is_the_mean_of_its_templates(tmp_path: Path) -> None:
    bank = TextBank(name="mine", templates=["a {}", "bad {} bed"], tags=["cab", "egg"], descriptions=["a face"])
    found = embed_bank(bank, lengths, 2.0, -1.0)
    mean = lengths(["a cab"])[0] + lengths(["bad cab bed"])[0]
    assert found.tag_vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert found.description_vectors.shape == (1, 8)
    assert found.probability(0.25) == pytest.approx(1 / (1 + np.exp(-(0.25 * np.exp(2.0) - 1))))
    save_vectors(found, tmp_path / "bank.npz")
    back = load_vectors(tmp_path / "bank.npz")
    assert (back.tags, back.descriptions, back.logit_scale, back.logit_bias) == (bank.tags, bank.descriptions, 2, -1)
    assert np.array_equal(back.tag_vectors, found.tag_vectors)
    (tmp_path / "bank.npz").write_bytes((tmp_path / "bank.npz").read_bytes()[:-40])
    with pytest.raises(DamagedArtifact, match="damaged text bank"):
        load_vectors(tmp_path / "bank.npz")


def test_a_bank_without_descriptions() -> None:
    found = embed_bank(TextBank(name="mine", tags=["cab"]), lengths, 2.0, -1.0)
    assert found.description_vectors.shape == (0, 8)


def test_the_digest_is_that_of_the_texts() -> None:
    one = TextBank(name="one", tags=["a", "b"])
    assert one.digest == TextBank(name="two", tags=["a", "b"]).digest
    assert len({bank.digest for bank in (one, TextBank(name="one", tags=["b", "a"]))}) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\ntags: []", "at least one tag"),
        ("name: x\ntags: [a, a]", "number 2 of the tags stands there twice"),
        ("name: ../x\ntags: [a]", "line 1, column 1: name: "),
        ("name: x\ntags: [a]\ncolour: red", "line 3, column 1: a bank has no such field, only name, templates"),
        ("name: x\ntags: [a]\ntemplates: ['no place']", "line 3, column 13: templates.0: .* where the tag goes"),
        ("name: x\ntags: [a]\ntemplates: ['{} {0.__class__}']", "where the tag goes"),
        ("name: x\ntags: [" + "a" * 301 + "]", "300 characters"),
        ("name: x\ntags: [" + ",".join(map(str, range(10_001))) + "]", "tags"),
        ("a: &a [x]\nb: *a", "aliases"),
        ("name: !!python/object/apply:os.system [id]", "no YAML"),
        ("name: x\ntags: [", "line 2, column 8: is no YAML"),
        ("- a", "valid dictionary"),
        ("\xff\xfe", "no text in UTF-8, at byte 1"),
    ],
)
def test_what_is_wrong_in_a_bank_is_said(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bank.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadTextBank, match=says):
        read_bank(path)


def test_where_banks_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "text_banks").mkdir()
    mine = tmp_path / "text_banks" / "mine.yaml"
    mine.write_text("name: mine\ntags: [a]")
    assert resolve_bank("mine", tmp_path, bundled=False) == mine
    assert resolve_bank(str(mine), None, bundled=True) == mine
    with pytest.raises(BadTextBank, match="one of default, mine, shapes"):
        resolve_bank("yours", tmp_path, bundled=False)
    with pytest.raises(BadTextBank, match="cannot be read"):
        read_bank(tmp_path / "gone.yaml")
