"""How far, how fast, how long yet: numbers of real events in, words out."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoll.cli.pace import Pace, follow, seconds_left, words
from smoll.events import StreamProgress
from smoll.model import StreamRef

REF = StreamRef("nyc", "flights")


def scan(seconds: float, fraction: float | None, size: int | None = 1_000_000) -> StreamProgress:
    rows = int(size * fraction) if size and fraction is not None else None
    return StreamProgress(REF, rows, fraction, seconds)


def fetch(seconds: float, done: int, total: int | None = 80_000_000) -> StreamProgress:
    return StreamProgress(REF, None, None, seconds, done, total)


def after(events: Iterable[StreamProgress]) -> tuple[Pace, tuple[str, str, str, str]]:
    pace, said = Pace(), ("", "", "", "")
    for event in events:
        pace = follow(pace, event)
        said = words(pace, event)
    return pace, said


def test_a_scan_at_an_even_speed() -> None:
    _, said = after(scan(n / 10, n / 1000, 12_000_000) for n in range(421))
    assert said == ("5,040,000 rows", "42%", "120,000 rows/s", "58 s left")
    _, said = after(scan(n / 10, n / 100, 12_000_000) for n in range(43))
    assert said == ("5,040,000 rows", "42%", "1.2 M rows/s", "6 s left")


def test_a_fetch_at_an_even_speed() -> None:
    _, said = after(fetch(n / 5, n * 800_000) for n in range(16))
    assert said == ("12 MB of 80 MB", "15%", "4.0 MB/s", "17 s left")


def test_a_fetch_of_unknown_length() -> None:
    _, said = after(fetch(n / 5, n * 800_000, None) for n in range(16))
    assert said == ("12 MB", "", "4.0 MB/s", "")


def test_a_length_that_was_announced_wrong() -> None:
    _, said = after(fetch(n / 5, n * 800_000, 1_000_000) for n in range(16))
    assert said == ("12 MB", "", "4.0 MB/s", "")


def test_nothing_is_foretold_in_the_first_second() -> None:
    for event in (scan(0.0, 0.0), scan(0.5, 0.3), scan(0.9, 0.4)):
        _, said = after([scan(0.0, 0.0), event])
        assert said[2:] == ("", "")
    assert after([scan(3.0, 0.0), scan(3.9, 0.4)])[1][2:] == ("", ""), "of its own, not of the stream"


def test_the_scan_counts_from_the_end_of_the_fetch() -> None:
    fetched = [fetch(n / 5, n * 800_000) for n in range(101)]
    pace, said = after([*fetched, scan(20.2, 0.0)])
    assert said == ("0 rows", "0%", "", "")
    assert pace.speed is None
    _, said = after([*fetched, scan(20.2, 0.0), scan(22.2, 0.2)])
    assert said == ("200,000 rows", "20%", "100,000 rows/s", "8 s left")


def test_a_scan_that_begins_again() -> None:
    _, said = after([scan(0.0, 0.0), scan(10.0, 1.0), scan(10.2, 0.01)])
    assert said[2:] == ("", "")


def test_a_stall_shows_within_seconds() -> None:
    moving = [scan(n / 5, n / 100) for n in range(51)]
    moving_left = seconds_left(*_last(moving))
    stalled_left = seconds_left(*_last([*moving, *(scan(10 + n / 5, 0.5) for n in range(50))]))
    assert moving_left == pytest.approx(10)
    assert moving_left is not None
    assert stalled_left is not None
    assert stalled_left > 3 * moving_left


def test_a_scan_that_tells_of_itself_in_steps() -> None:
    """As DuckDB does of a scan that computes much: 2 percent more every ten seconds, asked five times a second."""
    pace, lefts = Pace(), []
    for n in range(300):
        event = scan(n / 5, n // 50 / 50)
        pace = follow(pace, event)
        lefts.append(seconds_left(pace, event))
    assert all(left is None for left in lefts[:50]), "nothing has moved yet"
    for n, left in enumerate(lefts[50:], 50):
        assert left == pytest.approx(500 - n / 5, abs=0.5)


def test_what_is_unknown_is_not_said() -> None:
    assert after([StreamProgress(REF, None, None, n) for n in range(5)])[1] == ("", "", "", "")
    _, said = after([scan(0, 0, None), scan(4, 0.4, None)])
    assert said == ("", "40%", "", "6 s left")
    assert after([scan(0, 0), scan(4, 1.0)])[1][3] == "", "at the end nothing is left"


def _last(events: list[StreamProgress]) -> tuple[Pace, StreamProgress]:
    return after(events)[0], events[-1]


steps = st.tuples(
    st.floats(0, 1e5), st.none() | st.floats(0, 1), st.none() | st.integers(0, 2**62), st.none() | st.integers(0, 2**62)
)


@given(st.lists(steps, max_size=20))
def test_never_negative_and_never_an_error(values: list[tuple[float, float | None, int | None, int | None]]) -> None:
    pace = Pace()
    for seconds, fraction, done, total in values:
        event = StreamProgress(REF, None if fraction is None else int(1e9 * fraction), fraction, seconds, done, total)
        pace = follow(pace, event)
        left = seconds_left(pace, event)
        assert left is None or left >= 0
        assert not any("-" in word for word in words(pace, event))
