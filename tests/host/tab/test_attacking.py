"""An attack as the tab shows it: its form, how many pictures that is, started, refused, stopped, gone on, told."""

import re

import pytest

from lib_memstab.evidence.live.names import ALL_BLIND, HEADS, NAMES, WITH_PICTURE
from lib_memstab.host.asking import NUMBERS, Host
from lib_memstab.host.attack import TEXTS, read_attack
from lib_memstab.host.tab import attacking, verifying, working
from lib_memstab.host.tab.form import FormError
from lib_memstab.host.tab.verifying import FIELDS
from tests.evidence.standin import replaying
from tests.host.attacking import PLAIN, REPLAYED, Machine, asked
from tests.host.verifying import ended

SAMPLERS = ("Euler", "Euler a", "DPM++ 2M")
ALL = [name for name in NAMES if name != "DDIM"]


def read(content):
    return read_attack(content, Host(SAMPLERS, ("Automatic", "Karras"), lambda: (768, 640), []))


def form(listed=None, pasted="", ordinary=None, resume=True, attacks=ALL, **changes):
    values = {field.name: field.default for field in FIELDS}
    assert set(changes) <= set(values)
    fields = list({**values, **changes}.values())
    return attacking.read_form(fields, attacks, listed, pasted, ordinary, resume, SAMPLERS, read)


def text(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)).strip().replace("&#x27;", "'")


@pytest.fixture
def machine():
    with replaying(REPLAYED, hidden=[("cfg_scale", 1.0)]) as model:
        yield Machine(model)


def test_the_choice_is_of_what_the_webui_can_do():
    assert attacking.choices(SAMPLERS) == ALL


def test_an_untouched_form_with_a_list_is_what_a_call_of_the_api_with_it_is():
    assert form(pasted="a\nb") == read({"prompts": "a\nb"}) == form(listed=b"a\nb")


def test_the_form_has_every_field_of_a_body():
    apart = {"prompts", "prompts_name", "ordinary", "ordinary_name", "attacks", "resume"}
    assert {field.name for field in FIELDS} | apart == {*TEXTS, *(one.attribute for one in NUMBERS)}


def test_every_field_arrives():
    changes = {"seeds": 2, "limit": 3, "sampler": "Euler a", "scheduler": "Karras", "steps": 12, "width": 128}
    made = form(listed=b"a", ordinary=b"b", resume=False, attacks=["CFG 3", "negative prompt"], **changes)
    body = {"prompts": "a", "ordinary": "b", "resume": False, "attacks": ["CFG 3", "negative prompt"], **changes}
    assert made == read(body)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, verifying.NO_PROMPTS),
        ({"pasted": "a", "listed": b"a"}, verifying.TWO_LISTS),
        ({"pasted": "a", "attacks": []}, attacking.NO_ATTACKS),
        ({"pasted": "a", "attacks": None}, attacking.NO_ATTACKS),
        ({"pasted": "a", "attacks": [WITH_PICTURE[0]]}, "“Attacks” should be others than img2img"),
        ({"listed": b""}, "“Prompts that are known to replay"),
        ({"pasted": "a", "seeds": 1}, "“Pictures of each prompt” should be 2 or more"),
        ({"pasted": "a", "reference": "/"}, "only the WebUI's output folders"),
    ],
)
def test_a_refusal_names_the_field_as_the_tab_does_and_is_told_before_anything_starts(changes, words):
    with pytest.raises(FormError) as error:
        form(**changes)
    assert str(error.value).startswith(words)
    assert text(attacking.about(lambda: form(**changes))).startswith(words)


def test_how_many_pictures_that_is_at_most_is_told_beforehand():
    told = text(attacking.about(lambda: form(pasted="\n".join("abcde"), limit=4, seeds=10)))
    assert told.startswith("This attack is at most 2,000 pictures: 4 prompts, 25 attacks, 10 seeds, each without")
    assert told.endswith("A prompt that is not replayed takes 20 of them.")
    one = text(attacking.about(lambda: form(pasted="a", seeds=2, attacks=["CFG 3"])))
    assert one.startswith("This attack is at most 8 pictures: 1 prompt, 1 attack, 2 seeds")


def test_refusals_start_nothing_and_say_what_to_do(attacker, calibrating):
    assert working.NOT_ATTACKING in working.stop(attacker)
    assert working.NO_ATTACK_STOPPED in working.go_on(attacker, asked)
    calibrating.append(1)
    assert working.CALIBRATING in working.start(attacker, asked)
    assert attacker.progress.state == "idle"


def test_stopped_it_goes_on_and_tells_its_result_as_a_table_and_in_sentences(attacker, verifier, machine, turn):
    machine.pictures = PLAIN
    machine.gate.clear()
    assert 'data-busy="yes"' in working.start(attacker, asked)
    assert machine.begun.wait(10)
    assert working.ATTACKING in working.start(verifier, lambda: None)
    assert working.in_the_way(turn) == working.ATTACKING
    assert "looking which prompts are replayed: 0 of 24 pictures" in text(working.line(attacker))
    machine.gate.set()
    ended(attacker)
    seen = working.look(attacker, attacking.result)
    assert "8 of 16 pictures are kept: the same attack goes on" in text(seen.line)
    assert (seen.html, seen.files, working.in_the_way(turn)) == ("", (), "")
    machine.pictures = 999
    working.go_on(attacker, asked)
    assert ended(attacker).state == "done"
    seen = working.look(attacker, attacking.result)
    assert [path.name for path in seen.files] == ["report.json", "attempts.csv"]
    assert all(f"<th>{head}</th>" in seen.html for head in HEADS)
    told = text(seen.html)
    assert all(one in told for one in attacker.progress.summary)
    for words in ("CFG 1 no 100.0 % [22.36, 100.00] of 2 0 of 2", f"{ALL_BLIND} no 50.0 %", attacking.LIMITS):
        assert words in told


def test_a_hostile_report_is_text_and_a_broken_one_is_told(attacker, machine):
    attacker.start(asked(prompts_name="<img src=x>", prompts=f"{REPLAYED}\n{'x' * 5000}"))
    ended(attacker)
    html = working.look(attacker, attacking.result).html
    assert "<img" not in html
    assert "1 lines of &lt;img src=x&gt; were left out, such as line 2: the prompt is longer" in html
    attacker.file("json").write_text("{}")
    assert "cannot be read" in working.look(attacker, attacking.result).line
