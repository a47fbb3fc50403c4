"""What was replayed is known by offset, and by time: a topic that is made anew begins again at 0."""

from dataclasses import replace

from streams.feed.deadletters import DeadLetter, Progress

LETTER = DeadLetter("clicks", 1, 7, 5_000, "schema", "", 3, 1, 0, False, None, None, ())


def test_what_was_sent_is_covered_and_nothing_else() -> None:
    progress = Progress().past(LETTER)
    assert progress.covers(LETTER)
    earlier_but_stamped_later = replace(LETTER, offset=6, at_ms=5_010)
    both = Progress().past(earlier_but_stamped_later).past(LETTER)
    assert both.covers(earlier_but_stamped_later) and both.covers(LETTER)
    assert not both.covers(replace(LETTER, offset=8, at_ms=4_000))
    assert not Progress().covers(replace(LETTER, offset=0, at_ms=0))


def test_letters_of_a_topic_made_anew_are_not_passed_over() -> None:
    before = Progress().past(replace(LETTER, offset=900))
    anew = [replace(LETTER, offset=n, at_ms=6_000 + n) for n in range(3)]
    assert not any(before.covers(one) for one in anew)
    progress = before.past(anew[0])
    assert progress.covers(anew[0]) and not progress.covers(anew[1])
