"""Foreign records between own ones are seen; own ones, however they are cut, are not taken for foreign."""

from hypothesis import given
from hypothesis import strategies as st

from streams.transport.solewriter import SoleWriter

writes = st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=30)


@given(writes)
def test_finds_all_that_lies_between_own_writes(log: list[tuple[bool, int]]) -> None:
    writer, offset, between, found, expected = SoleWriter(), 0, 0, 0, 0
    began = False
    for own, records in log:
        if own:
            found += writer.wrote("changelog", 0, offset, records)
            expected += between if began else 0
            began, between = True, 0
        else:
            between += records
        offset += records
    assert found == expected


def test_partitions_and_topics_are_apart_and_a_return_starts_anew() -> None:
    writer = SoleWriter()
    assert [writer.wrote("a", 0, 10, 5), writer.wrote("a", 1, 3, 1), writer.wrote("b", 0, 7, 1)] == [0, 0, 0]
    writer.forget(0)
    assert [writer.wrote("a", 0, 99, 1), writer.wrote("a", 1, 6, 1)] == [0, 2]
    assert writer.wrote("a", 1, -1, 1) == 0  # the broker does not know where it was
    assert writer.wrote("a", 1, 50, 1) == 0
    writer.forget()
    assert writer.wrote("a", 1, 90, 1) == 0
