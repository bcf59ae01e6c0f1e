from __future__ import annotations

import threading
import time

import pytest
import torch

from wavconformer.tasks.side_by_side import MOST, side_by_side


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_items_run_at_once():
    together = threading.Barrier(MOST, timeout=20)

    def wait(number):
        together.wait()  # breaks unless so many are here at once
        time.sleep(0.02 * (MOST - number))
        return number, torch.get_num_threads()

    assert list(side_by_side(wait, range(MOST))) == [(number, 1) for number in range(MOST)]
    assert torch.get_num_threads() == 4


def test_two_items_share_the_threads():
    assert list(side_by_side(lambda _: torch.get_num_threads(), "ab")) == [2, 2]


def test_threads_that_come_later_have_all_cores():
    list(side_by_side(str, range(9)))
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [4]


def test_one_item_stays_in_this_thread():
    assert list(side_by_side(lambda _: threading.current_thread(), "a")) == [threading.current_thread()]
    assert list(side_by_side(str, [])) == []


def test_an_error_comes_in_its_place_and_what_waits_is_left_undone():
    begun = []

    def fail_at_two(number):
        begun.append(number)
        if number == 2:
            raise ValueError("two")
        time.sleep(0.005)
        return number

    found = side_by_side(fail_at_two, range(1000))
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(found)
    assert torch.get_num_threads() == 4
    assert {0, 1, 2} <= set(begun)
    assert len(begun) < 1000
