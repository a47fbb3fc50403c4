"""Item index: stable hashes and codes, look-ups, bounds."""

import numpy as np
import pytest

from models.taste.index import UNKNOWN, ItemIndex, hash_of, sign_codes


def test_hashes_and_codes_never_change() -> None:
    assert hash_of("item-1") == 8406168460641299428
    codes = sign_codes(np.array([hash_of("item-1")], np.uint64), 128)
    assert "".join("+" if sign > 0 else "-" for sign in codes[0, :32]) == "--++--++-+-------++-+++--+-+-+-+"
    assert set(np.unique(codes)) == {-1.0, 1.0}


def test_codes_of_different_items_are_nearly_orthogonal() -> None:
    codes = sign_codes(np.array([hash_of(f"i{i}") for i in range(500)], np.uint64), 64)
    cosines = (codes @ codes.T / 64)[np.triu_indices(500, 1)]
    assert abs(float(cosines.mean())) < 0.002
    assert float(cosines.std()) == pytest.approx(1 / 8, rel=0.02)


def test_lookup_is_stable_and_grows() -> None:
    index = ItemIndex()
    names = [f"ü{i}" for i in range(9000)]
    first = index.lookup(names)
    assert first.tolist() == list(range(1, 9001))
    assert index.lookup(names[::-1]).tolist() == first[::-1].tolist()
    assert index.lookup(["new", "ü5", "new"]).tolist() == [9001, 6, 9001]
    assert index.hashes[first].tolist() == [hash_of(name) for name in names]
    np.testing.assert_array_equal(index.codes[first], sign_codes(index.hashes[first], 64))
    assert not index.codes[UNKNOWN].any()


def test_items_known_by_hash_get_their_name_later() -> None:
    index = ItemIndex()
    hashes = np.array([hash_of(f"i{i}") for i in (3, 1, 3, 2)] + [0], np.uint64)
    found = index.by_hash(hashes)
    assert found[0] == found[2] and len({*found.tolist()}) == 4 and found[4] == UNKNOWN
    assert index.names[found[1]] is None
    assert index.lookup(["i1", "i9", "i3"]).tolist() == [found[1], 4, found[0]]
    assert index.names[found[1]] == "i1"
    assert index.by_hash(np.array([hash_of("i9")], np.uint64)).tolist() == [4]


def test_by_hash_finds_everything_in_a_full_table() -> None:
    index = ItemIndex()
    rng = np.random.default_rng(1)
    hashes = rng.integers(1, 2**63, 20_000).astype(np.uint64) << np.uint64(10)  # low bits equal: long probes
    hashes = np.unique(hashes)[:6000] >> np.uint64(4)
    found = index.by_hash(hashes)
    assert len(np.unique(found)) == len(hashes)
    assert index.by_hash(hashes).tolist() == found.tolist()
    assert (index.hashes[found] == hashes).all()


def test_newcomers_beyond_the_bound_share_index_0_and_are_counted() -> None:
    index = ItemIndex(max_items=3)
    assert index.lookup(["a", "b", "c", "d", "a", "e"]).tolist() == [1, 2, 3, 0, 1, 0]
    assert index.beyond == 2
    assert index.by_hash(np.array([hash_of("b"), hash_of("z")], np.uint64)).tolist() == [2, 0]
    assert index.beyond == 3 and len(index) == 4


def test_dimension_is_whole_words() -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        ItemIndex(dim=100)
