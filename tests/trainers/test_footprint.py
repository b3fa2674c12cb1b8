"""The estimate of a cohort's memory: its parts counted by hand, and what it is for."""

from __future__ import annotations

import pytest

from tests.trainers.programs import program
from trainers.footprint import CohortTooLargeError, cohort_bytes, largest_cohort, require_room


def test_the_parts_are_those_counted_by_hand() -> None:
    of = program(batch_size=32)  # 4-16-16-2 against 2-16-16-1, Adam, k = 1
    parameters = 416 + 352  # 80 + 272 + 34 and 48 + 272 + 17, each padded to a multiple of 32
    activations = (4 + 16 + 16 + 2) + 2 * (2 + 16 + 16 + 1)
    draws = 2 * 8 * 2 * (4 + 2 * 2)
    assert cohort_bytes(of, 8) == 8 * 4 * (parameters * 7 + 32 * (2 * activations + draws))
    assert cohort_bytes(of, 3) == cohort_bytes(of, 8), "padding takes memory too"
    assert cohort_bytes(program(batch_size=32, penalty="r1"), 8) - cohort_bytes(of, 8) == 8 * 4 * 32 * 2 * activations


def test_the_largest_cohort_is_the_last_that_fits() -> None:
    of = program()
    room = cohort_bytes(of, 24)
    assert largest_cohort(of, room_bytes=room, at_most=1000) == 24
    assert largest_cohort(of, room_bytes=room, at_most=10) == 10
    assert largest_cohort(of, room_bytes=0, at_most=10) == 1


def test_a_cohort_that_does_not_fit_is_refused_with_the_size_that_does() -> None:
    of = program()
    require_room(of, 24, room_bytes=cohort_bytes(of, 24))
    with pytest.raises(CohortTooLargeError, match="cohort_size to at most 16"):
        require_room(of, 24, room_bytes=cohort_bytes(of, 24) - 1)
