"""Streams of lessons with copies among them: what they hold, and what is learned from them."""

import numpy as np
import pytest

pytest.importorskip("torchsde")

from lib_memstab.lab import transfer_tables
from lib_memstab.lab.contamination import Plan, Pool, judge, learn_from, lessons_of, stream
from lib_memstab.lab.experiment import load_splits
from lib_memstab.lab.recording import record_trials
from lib_memstab.lab.trials import MAIN, memorized_trials, plain_trials


@pytest.fixture(scope="module")
def pool():
    split = load_splits()
    plain = lessons_of(plain_trials(split["calibration"][:48], 1))
    copies = [lessons_of(memorized_trials(split["tuning"], 1, base, ("heavy",))[:4]) for base in (500, 900)]
    return Pool([(one, one) for one in plain], list(zip(*copies, strict=True)))


def test_a_stream_holds_the_share_of_copies_that_it_should(pool):
    replayed = {one.prompt for pair in pool.copies for one in pair}
    for twice in (False, True):
        lessons = stream(pool, 0.1, twice, 40, np.random.default_rng(1))
        assert len(lessons) == 40
        assert sum(one.prompt in replayed for one in lessons) == 4
        assert (len({one.prompt for one in lessons}) == 20) is twice


def test_copies_in_two_seeds_are_never_learned_from(pool):
    replayed = {one.prompt for pair in pool.copies for one in pair}
    twice = [*(one for one, _ in pool.plain), *(one for pair in pool.copies for one in pair)]
    region, used = learn_from(twice)
    assert region is not None
    assert not {one.prompt for one in used} & replayed


def test_too_few_lessons_teach_nothing(pool):
    assert learn_from([one for one, _ in pool.plain[:20]])[0] is None


def test_the_table_has_a_row_for_each_stream(pool):
    split = load_splits()["tuning"]
    tests = {
        "ordinary": record_trials(MAIN, plain_trials(split["ordinary"][:4], 70)),
        "copies": record_trials(MAIN, memorized_trials(split, 1, 80, ("heavy",))[:2]),
    }
    plan = Plan(images=40, draws=2)
    row = judge(pool, 0.1, False, plan, tests)
    assert (row["ordinary"], row["copies"]) == (4, int(tests["copies"].copied.sum()))
    assert all(0 <= one <= 4 for one in row["alarms"])
    figures = {"draws": 2, "images": 40, "rows": [{"share": 0.1, "twice": False, **row}]}
    assert "| 10 % | one seed |" in transfer_tables.learning(figures)
