"""The estimate of a cohort's memory: its parts counted by hand, and what it is for."""

from __future__ import annotations

import pytest

from tests.trainers.programs import program
from trainers.footprint import CohortTooLargeError, cohort_bytes, members_at_once


def test_the_parts_are_those_counted_by_hand() -> None:
    of = program(batch_size=32)  # 4-16-16-2 against 2-16-16-1, Adam, k = 1
    parameters = 416 + 352  # 80 + 272 + 34 and 48 + 272 + 17, each padded to a multiple of 32
    activations = (4 + 16 + 16 + 2) + 2 * (2 + 16 + 16 + 1)
    draws = 2 * 8 * 2 * (4 + 2 * 2)
    assert cohort_bytes(of, 8) == 8 * 4 * (parameters * 7 + 32 * (2 * activations + draws))
    assert cohort_bytes(of, 3) == cohort_bytes(of, 8), "padding takes memory too"
    assert cohort_bytes(program(batch_size=32, penalty="r1"), 8) - cohort_bytes(of, 8) == 8 * 4 * 32 * 2 * activations


def test_parts_keep_parameters_twice_and_the_rest_once() -> None:
    of = program(batch_size=32)
    parameters = 416 + 352
    passing = cohort_bytes(of, 8) - 8 * 4 * parameters * 7
    assert cohort_bytes(of, 24, at_once=8) == 2 * 24 * 4 * parameters * 7 + passing
    assert cohort_bytes(of, 24, at_once=24) == cohort_bytes(of, 24, at_once=99) == cohort_bytes(of, 24)


def test_a_cohort_that_fits_trains_as_a_whole_and_another_in_the_largest_parts_that_do() -> None:
    of = program(batch_size=128)
    assert members_at_once(of, 64, room_bytes=cohort_bytes(of, 64)) == 64
    for size in (8, 16, 56):
        assert members_at_once(of, 64, room_bytes=cohort_bytes(of, 64, at_once=size)) == size
        assert members_at_once(of, 64, room_bytes=cohort_bytes(of, 64, at_once=size) + 1) == size
    assert members_at_once(of, 64, room_bytes=cohort_bytes(of, 64, at_once=16) - 1) == 8


def test_a_cohort_that_fits_in_no_parts_is_refused() -> None:
    of = program(batch_size=128)
    with pytest.raises(CohortTooLargeError, match=r"64 members needs about .* in its smallest parts"):
        members_at_once(of, 64, room_bytes=cohort_bytes(of, 64, at_once=8) - 1)
    with pytest.raises(CohortTooLargeError, match=r"set a smaller resources\.cohort_size"):
        members_at_once(of, 3, room_bytes=cohort_bytes(of, 3) - 1)


def test_networks_of_unknown_size_are_tried() -> None:
    of = program(networks={"name": "conv", "latent_dim": 4}, target={"name": "digits"})
    assert members_at_once(of, 64, room_bytes=1) == 64
