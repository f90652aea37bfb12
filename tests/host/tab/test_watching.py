"""A calibration as the tab shows it: started, refused, growing, stopped, gone on, done."""

import re
import time
from dataclasses import replace

import pytest

pytest.importorskip("matplotlib")

from lib_memstab.calibration.calibrator import Calibrator
from lib_memstab.host.tab import watching
from lib_memstab.host.tab.form import FormError
from tests.calibration.test_calibration import PLAN, Machine, finished

SMALL = replace(PLAN, guidance=(7.5,), trajectories=40, modes=("txt2img",))


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def calibrator(machine, tmp_path):
    return Calibrator(machine, lambda profile: None, lambda: tmp_path / "unfinished")


def text(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", html)).strip()


def test_before_any_calibration_there_is_nothing_to_see(calibrator):
    line, drawn, seen = watching.View(lambda: calibrator).look("")
    assert 'data-busy="no"' in line
    assert (text(line), drawn, seen) == ("", None, "")


def test_a_form_that_cannot_be_used_starts_nothing_and_says_why(calibrator):
    def refused():
        raise FormError("“Steps” should be <1>.")

    line = watching.start(calibrator, refused)
    assert "“Steps” should be &lt;1&gt;." in line
    assert 'data-busy="no"' in line
    assert calibrator.progress.state == "idle"


def test_a_second_calibration_is_refused_beside_the_first_ones_line(machine, calibrator):
    machine.gate.clear()
    assert 'data-busy="yes"' in watching.start(calibrator, lambda: SMALL)
    machine.begun.wait(10)
    line = watching.start(calibrator, lambda: replace(SMALL, steps=5))
    assert "on its way already" in line
    assert "0 of 80 images" in line
    machine.gate.set()
    assert finished(calibrator).state == "done"


def test_stop_says_what_it_does(machine, calibrator):
    assert "No calibration is on its way" in watching.stop(calibrator)
    machine.gate.clear()
    calibrator.start(SMALL)
    assert machine.begun.wait(10)
    assert "Stopping" in watching.stop(calibrator)
    machine.gate.set()
    assert finished(calibrator).state == "stopped"


def test_the_picture_grows_and_is_drawn_only_when_there_is_more(machine, calibrator):
    machine.stop_after = 6
    assert calibrator.start(SMALL)
    assert finished(calibrator).state == "stopped"
    view = watching.View(lambda: calibrator)
    line, drawn, seen = view.look("")
    assert "is kept" in text(line)
    assert drawn.startswith('<img src="data:image/png;base64,')
    assert view.look(seen)[1:] == (None, seen)
    assert view.look("")[1] is drawn
    machine.stop_after = None
    calibrator.start(SMALL)
    finished(calibrator)
    assert view.look(seen)[1].startswith("<img")


def test_a_calibration_that_goes_on_says_what_it_had_and_how_long_it_takes(machine, calibrator):
    machine.stop_after = 4
    calibrator.start(SMALL)
    finished(calibrator)
    machine.stop_after, machine.seconds = None, 0.05
    before = len(machine.batches)
    line = watching.start(calibrator, lambda: SMALL)
    while calibrator.progress.seconds_left is None and calibrator.busy:
        time.sleep(0.01)
    line = watching.line(calibrator)
    assert re.search(r"\d+ of 80 images, 20 of them measured before, about \d+ s left", text(line))
    width = float(re.search(r"width: ([\d.]+)%", line).group(1))
    assert 25 <= width < 100
    assert finished(calibrator).state == "done"
    assert len(machine.batches) - before < 16
    line, drawn, _ = watching.View(lambda: calibrator).look("")
    assert "saved as my model" in text(line)
    assert "<img" in drawn


def test_another_calibration_does_not_show_the_picture_of_the_last(machine, calibrator):
    view = watching.View(lambda: calibrator)
    calibrator.start(SMALL)
    finished(calibrator)
    _, drawn, seen = view.look("")
    assert drawn
    machine.gate.clear()
    machine.begun.clear()
    calibrator.start(replace(SMALL, resume=False))
    assert machine.begun.wait(10)
    assert view.look(seen)[1] == ""
    machine.gate.set()
    finished(calibrator)
