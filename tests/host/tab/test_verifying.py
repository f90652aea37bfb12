"""A verification as the tab shows it: its form, started, refused, stopped, gone on, told in sentences."""

import re

import pytest

pytest.importorskip("matplotlib")

from lib_memstab.host.asking import NUMBERS, Host
from lib_memstab.host.tab import verifying, working
from lib_memstab.host.tab.form import FormError
from lib_memstab.host.tab.verifying import FIELDS
from lib_memstab.host.verification import TEXTS, read_verification
from tests.host.verifying import asked, ended


def read(content):
    return read_verification(content, Host(["Euler", "DDIM"], ["Automatic", "Karras"], lambda: (768, 640), []))


def form(memorized=None, pasted="", ordinary=None, resume=True, **changes):
    values = {field.name: field.default for field in FIELDS}
    assert set(changes) <= set(values)
    return verifying.read_form(list({**values, **changes}.values()), memorized, pasted, ordinary, resume, read)


def text(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)).strip()


def test_an_untouched_form_with_a_list_is_what_a_call_of_the_api_with_it_is():
    assert form(pasted="a\nb") == read({"memorized": "a\nb"}) == form(memorized=b"a\nb")


def test_a_number_that_the_browser_shows_as_0_is_left_out():
    assert form(pasted="a", limit=0, width=0, height=0) == form(pasted="a")


def test_the_form_has_every_field_of_a_body():
    apart = {"memorized", "memorized_name", "ordinary", "ordinary_name", "resume"}
    assert {field.name for field in FIELDS} | apart == {*TEXTS, *(one.attribute for one in NUMBERS)}


def test_every_field_arrives():
    changes = {"seeds": 2, "limit": 3, "sampler": "DDIM", "scheduler": "Karras", "steps": 12, "width": 128}
    more = {"height": 256, "guidance": 5.5, "sensitivity": 10}
    made = form(memorized="a\né".encode("utf-8-sig"), ordinary=b"b", resume=False, **changes, **more)
    assert made == read({"memorized": "\ufeffa\né", "ordinary": "b", "resume": False, **changes, **more})
    assert made.memorized.prompts[0].text == "a"


def test_what_is_no_utf_8_is_left_out_by_its_line():
    made = form(memorized=b"good\nbad \xff\n")
    assert [(one.line, one.reason) for one in made.memorized.broken] == [(2, "it is not UTF-8")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, verifying.NO_PROMPTS),
        ({"pasted": " \n"}, verifying.NO_PROMPTS),
        ({"pasted": "a", "memorized": b"a"}, verifying.TWO_LISTS),
        ({"memorized": b""}, "“Prompts that are known to replay"),
        ({"pasted": "a", "ordinary": b"\0"}, "“Ordinary prompts"),
        ({"pasted": "a", "steps": 1}, "“Steps” should be a whole number from 2 to 150."),
        ({"pasted": "a", "seeds": 1}, "“Pictures of each prompt” should be 2 or more"),
        ({"pasted": "a", "limit": -1}, "“Prompts of each list” should be"),
        ({"pasted": "a", "guidance": 99.0}, "“CFG scale” should be a number from 1 to 30."),
        ({"pasted": "a", "reference": "/"}, "only the WebUI's output folders"),
    ],
)
def test_a_refusal_names_the_field_as_the_tab_does(changes, words):
    with pytest.raises(FormError) as error:
        form(**changes)
    assert str(error.value).startswith(words)


def test_nothing_is_on_its_way_at_first(verifier):
    seen = working.look(verifier, verifying.result)
    assert 'data-busy="no"' in seen.line
    assert (text(seen.line), seen.html, seen.files, seen.state) == ("", "", (), "")
    assert working.NOT_VERIFYING in working.stop(verifier)
    assert working.NONE_STOPPED in working.go_on(verifier, asked)


def test_refusals_start_nothing(verifier, calibrating, body):
    def refused():
        raise FormError("“Steps” should be <1>.")

    assert "“Steps” should be &lt;1&gt;." in working.start(verifier, refused)
    calibrating.append(1)
    assert working.CALIBRATING in working.start(verifier, lambda: asked(body))
    assert verifier.progress.state == "idle"


def test_stopped_it_goes_on_whatever_the_form_says_and_tells_its_result(verifier, machine, body):
    machine.batches = 3
    machine.gate.clear()
    assert 'data-busy="yes"' in working.start(verifier, lambda: asked(body))
    machine.begun.wait(10)
    assert working.VERIFYING in working.start(verifier, lambda: asked(body))
    assert working.VERIFYING in working.go_on(verifier, asked)
    line = working.line(verifier)
    assert "verifying: 0 of 12 pictures" in text(line)
    assert 'aria-valuenow="0"' in line
    machine.gate.set()
    ended(verifier)
    seen = working.look(verifier, verifying.result)
    assert "6 of 12 pictures are kept" in text(seen.line)
    assert (seen.html, seen.files) == ("", ())
    machine.batches, machine.taken = 99, 0
    machine.gate.clear()
    machine.begun.clear()
    working.go_on(verifier, asked)
    machine.begun.wait(10)
    line = working.line(verifier)
    assert "6 of 12 pictures, 6 of them made before" in text(line)
    assert 'aria-valuenow="50"' in line
    machine.gate.set()
    assert ended(verifier).state == "done"
    seen = working.look(verifier, verifying.result)
    assert [path.name for path in seen.files] == ["report.html", "report.json", "pictures.csv"]
    assert working.look(verifier, verifying.result).state == seen.state != ""
    told = text(seen.html)
    for one in verifier.progress.summary:
        assert one in told.replace("&#x27;", "'")
    assert verifying.LIMITS in told


def test_a_hostile_report_is_text_and_a_broken_one_is_told(verifier, machine, body):
    verifier.start(asked(body, memorized_name="<img src=x>", memorized=body["memorized"] + "\n" + "x" * 5000))
    ended(verifier)
    html = working.look(verifier, verifying.result).html
    assert "<img" not in html
    assert "1 lines of &lt;img src=x&gt; were left out, such as line 2: the prompt is longer" in html
    verifier.file("json").write_text("{}")
    assert "cannot be read" in working.look(verifier, verifying.result).line
