"""`python -m lib_memstab attack`: what is tried, what is kept, and what counts as a finding."""

import json
from concurrent.futures import Future

import pytest

pytest.importorskip("torchsde")

from lib_memstab.evidence import attack as attacking
from lib_memstab.evidence import attack_command
from lib_memstab.evidence.attack import FULL, Plan, rates, units
from lib_memstab.lab.attacks import ATTACKS
from lib_memstab.lab.attempt import Attempt

PLAIN, NOISED, INVERTED = "the prompt as it is", "embedding noise, 0.3 std", "inversion from the prompt"


def attempt(name=PLAIN, without=0.9, suppressed=0.1, prompt="one", effort=0):
    return Attempt(name, prompt, "title", 1, effort, 0.0, without, suppressed, True, 3.0)


@pytest.fixture
def made(monkeypatch):
    """Units are made up here, in this process, and noted."""
    done = []

    class Here:
        def __init__(self, jobs):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def submit(self, work, unit, plan):
            future = Future()
            future.set_result(work(unit, plan))
            return future

        def shutdown(self, **how):
            pass

    def make(unit, plan):
        done.append(unit.key)
        return [attempt(unit.attack, prompt=trial.text) for trial in unit.trials]

    monkeypatch.setattr(attacking, "workers", Here)
    monkeypatch.setattr(attacking, "attack_unit", make)
    return done


def test_every_trial_is_in_one_unit_of_an_attack_and_kinds_take_turns():
    plan = Plan(prompts=41, seeds=2, inverted=3)
    found = units(plan, [PLAIN, INVERTED, "paraphrased"])
    by_attack = {name: [unit.trials for unit in found if unit.attack == name] for name in ATTACKS}
    assert sum(map(len, by_attack[PLAIN])) == 82
    assert all(len(part) <= attacking.BLOCK for part in by_attack[PLAIN])
    assert [len(part) for part in by_attack[INVERTED]] == [2, 2, 2]
    assert [part[0].pair.kind for part in by_attack[INVERTED]] == ["title", "caption", "template"]
    assert {trial.pair.kind for part in by_attack["paraphrased"] for trial in part} == {"caption"}
    assert len({unit.key for unit in found}) == len(found)


def test_no_prompts_for_gradients_leave_the_other_attacks(shell, made):
    code, told, _ = shell("attack", "--attacks", PLAIN, INVERTED, "--inverted", "0")
    assert code == 0
    assert {key.split(" @ ")[0] for key in made} == {PLAIN}
    assert INVERTED not in told
    assert shell("attack", "--attacks", INVERTED, "--inverted", "0")[0] == 0


def test_the_journal_goes_on_where_it_was_left(shell, made, tmp_path):
    names = ["--attacks", PLAIN, NOISED]
    code, first, _ = shell("attack", "--attacks", PLAIN, "--out", tmp_path)
    assert code == 0
    assert len(made) == 1
    code, both, _ = shell("attack", *names, "--out", tmp_path)
    assert len(made) == 2
    assert first.splitlines()[2] in both
    whole = shell("attack", *names)[1]
    assert whole == both
    assert shell("attack", *names, "--out", tmp_path)[1] == both
    assert len(made) == 4


def test_a_journal_of_other_settings_or_none_is_refused(shell, made, tmp_path):
    shell("attack", "--attacks", PLAIN, "--out", tmp_path)
    code, _, said = shell("attack", "--attacks", PLAIN, "--seeds", "3", "--out", tmp_path)
    assert code == 2
    assert "other settings" in said
    (tmp_path / attack_command.JOURNAL).write_text("{}")
    code, _, said = shell("attack", "--attacks", PLAIN, "--out", tmp_path)
    assert code == 2
    assert "no journal" in said
    assert len(made) == 1


@pytest.mark.parametrize(("suppressed", "code"), [(0.69, 0), (0.71, 1)])
def test_a_copy_that_an_attacker_without_the_picture_gets_is_a_finding(shell, made, monkeypatch, suppressed, code):
    monkeypatch.setattr(attacking, "attack_unit", lambda unit, plan: [attempt(unit.attack, suppressed=suppressed)])
    assert shell("attack", "--attacks", PLAIN)[0] == code
    assert shell("attack", "--attacks", INVERTED)[0] == 0


def test_the_row_of_an_attack_counts_copies_and_prompts(shell):
    some = [attempt(suppressed=0.8), attempt(), attempt(prompt="two"), attempt(without=0.2, prompt="two")]
    (row,) = rates(some)
    assert (row["attempts"], row["copies_without"], row["copies_with"]) == (4, 3, 1)
    assert (row["prompts"], row["prompts_won"]) == (2, 1)
    assert len(rates([attempt(effort=1), attempt(effort=2)])) == 2


def test_the_command_line_says_what_is_tried(shell, made, monkeypatch):
    asked = []
    monkeypatch.setattr(attack_command, "attack", lambda plan, names, *rest: asked.append((plan, names)) or [attempt()])
    code, out, _ = shell("attack", "--full", "--seeds", "5", "--steps", "9", "3", "--json")
    assert code == 0
    plan, names = asked[0]
    assert (plan.seeds, plan.steps, plan.prompts) == (5, (3, 9), FULL.prompts)
    assert names == list(ATTACKS)
    assert json.loads(out)["without_picture"]["attempts"] == 1
    assert shell("attack", "--strength", "2")[0] == 2
    with pytest.raises(SystemExit, match="2"):
        shell("attack", "--seeds", "0")


def test_what_was_not_flagged_is_held_against_lower_bounds():
    region = attacking.load_tools()[2]["txt2img"]
    score = (region.threshold(50) + region.threshold(20)) / 2
    missed = Attempt(PLAIN, "one", "title", 1, 0, 0.0, 0.9, 0.9, False, score)
    text = attacking.markdown([missed, attempt()])
    assert "Copies that were not flagged: 1." in text
    assert "0 at 1 in 50, 1 at 1 in 20, 1 at 1 in 10" in text
