"""Reports: plain data that comes back, whatever it was made of, and never trusts what it reads."""

import dataclasses
import json
import math

import pytest

from lib_memstab.core.plain import parse_object
from lib_memstab.core.report import (
    ImageReport,
    PassReport,
    ProfileUse,
    ReportError,
    SecondLook,
    StepCounts,
    Trace,
    combine,
)

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

USE = ProfileUse("lab", "0123456789abcdef" * 4, "exact", "lab was calibrated for this.")
STEPS = StepCounts(measured=20, outside=12, suppressed=12, first_outside=2)
TRACE = Trace((14.5, 7.25), (1.25, 1.5), (0.75, 0.8), (1.2, 1.3))
REPORT = ImageReport(
    verdict="suppressed",
    reason="",
    partial=None,
    score=8.21,
    p_value=1e-6,
    sensitivity=1000.0,
    mode="suppress",
    profile=USE,
    steps=STEPS,
    trace=TRACE,
    passes=(PassReport("hires", "clear", "", 1.5, 0.25, USE, STEPS, TRACE),),
    host="WebUI v1.10.1",
    version="0.1.0",
    extra_evaluations=12,
    strength=1.0,
    rule="late text",
)
CONTRACT = [
    *("schema", "verdict", "reason", "partial", "score", "p_value", "sensitivity", "mode", "profile", "steps", "trace"),
    *("passes", "host", "version"),
]

numbers = st.none() | st.floats(-1e9, 1e9)
traces = st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=5).map(
    lambda entries: Trace(*zip(*entries, strict=True))
)
REPORTS = st.builds(
    dataclasses.replace,
    st.just(REPORT),
    verdict=st.sampled_from(["clear", "flagged", "suppressed"]),
    reason=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))),
    partial=st.none() | st.tuples(st.integers(0, 150), st.integers(0, 150)),
    score=numbers,
    p_value=st.none() | st.floats(0, 1),
    sensitivity=st.floats(2, 1e9),
    mode=st.sampled_from(["suppress", "detect"]),
    profile=st.none() | st.just(USE),
    trace=traces | st.just(Trace((), (), (), ())),
    passes=st.sampled_from([(), REPORT.passes]),
    strength=st.floats(0, 2),
    second_look=st.none() | st.builds(SecondLook, st.floats(-1, 1), st.floats(-1e9, 1e9)),
)


def changed(**fields):
    return {**REPORT.to_dict(), **fields}


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(REPORTS)
def test_a_report_comes_back_through_json(report):
    assert ImageReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_the_fields_of_the_contract_come_first_and_in_its_order():
    assert list(REPORT.to_dict())[: len(CONTRACT)] == CONTRACT


def test_a_badge_with_the_contract_s_fields_alone_is_read():
    content = {name: value for name, value in REPORT.to_dict().items() if name in CONTRACT}
    report = ImageReport.from_dict(content)
    assert (report.extra_evaluations, report.strength, report.rule, report.second_look) == (0, 1.0, "", None)


def test_fields_that_a_newer_version_added_are_left_out():
    assert ImageReport.from_dict(changed(more={"x": [1]}, steps={**REPORT.to_dict()["steps"], "more": 1})) == REPORT


@pytest.mark.parametrize("name", CONTRACT)
def test_a_missing_field_is_named(name):
    content = REPORT.to_dict()
    del content[name]
    with pytest.raises(ReportError, match=f"'{name}' is missing"):
        ImageReport.from_dict(content)


def test_what_cannot_be_written_is_written_so_that_it_can_be_read():
    odd = dataclasses.replace(
        REPORT,
        reason="inner error:\nTraceback\x1b[2J \ud800" + "x" * 5000,
        score=math.inf,
        trace=Trace((14.5,), (math.nan,), (-math.inf,), (1e308,)),
    )
    again = ImageReport.from_dict(parse_object(json.dumps(odd.to_dict(), allow_nan=False)))
    assert again.reason.startswith("inner error: Traceback [2J  x")
    assert again.score is None
    assert again.trace == Trace((14.5,), (None,), (None,), (None,))


@pytest.mark.parametrize(
    "fields",
    [
        {"schema": 2},
        {"schema": "1"},
        {"verdict": "original"},
        {"verdict": ["clear"]},
        {"verdict": "not measured"},
        {"reason": None},
        {"reason": "a\nb"},
        {"reason": "x" * 2001},
        {"partial": [1]},
        {"partial": [-1, 20]},
        {"partial": [1.5, 20]},
        {"score": "8"},
        {"score": True},
        {"score": math.nan},
        {"score": 10**400},
        {"p_value": 1.5},
        {"sensitivity": 1},
        {"sensitivity": None},
        {"mode": "off"},
        {"profile": {"name": "x", "sha256": "x", "match": "exact"}},
        {"profile": "x"},
        {"steps": {"measured": -1, "outside": 0, "suppressed": 0, "first_outside": None}},
        {"steps": {"measured": 1, "outside": 0, "suppressed": 0, "first_outside": 0}},
        {"steps": {}},
        {"trace": {"sigma": [1], "norm": [], "low": [], "high": []}},
        {"trace": {"sigma": [0] * 50_001, "norm": [0] * 50_001, "low": [0] * 50_001, "high": [0] * 50_001}},
        {"trace": {"sigma": [[1]], "norm": [1], "low": [1], "high": [1]}},
        {"passes": [1]},
        {"passes": {}},
        {"extra_evaluations": -1},
        {"strength": -1},
        {"rule": 1},
        {"second_look": {}},
        {"second_look": {"likeness": 0.9}},
        {"second_look": {"likeness": None, "bound": 2.25}},
        {"second_look": {"likeness": 1.01, "bound": 2.25}},
        {"second_look": {"likeness": -1.01, "bound": 2.25}},
        {"second_look": {"likeness": 0.9, "bound": math.inf}},
        {"second_look": {"likeness": 0.9, "bound": "2.25"}},
        {"second_look": [0.9, 2.25]},
    ],
)
def test_hostile_fields_are_report_errors(fields):
    with pytest.raises(ReportError, match="not a report of MemStab"):
        ImageReport.from_dict(changed(**fields))


@pytest.mark.parametrize("content", [None, 1, "x", [], {}, {"schema": 1}])
def test_what_is_no_report_at_all(content):
    with pytest.raises(ReportError):
        ImageReport.from_dict(content)


def test_a_report_that_was_not_measured_says_why():
    with pytest.raises(ReportError, match="needs a reason"):
        dataclasses.replace(REPORT, verdict="not measured", reason="")


@pytest.mark.parametrize("numbers", [(1.01, 2.25), (math.nan, 2.25), (0.9, math.inf), (0.9, math.nan)])
def test_a_second_look_that_could_not_be_read_again_is_not_made(numbers):
    with pytest.raises(ReportError, match="from -1 to 1 and a finite bound"):
        SecondLook(*numbers)


def test_the_second_look_of_an_image_is_that_of_the_pass_that_decides():
    look, other = SecondLook(0.93, 2.25), SecondLook(0.1, 3.0)
    flagged = dataclasses.replace(REPORT, verdict="flagged", p_value=0.03, second_look=look)
    clear = dataclasses.replace(REPORT, verdict="clear", p_value=0.02, second_look=other)
    for passes in ([("base", flagged), ("hires", clear)], [("base", clear), ("hires", flagged)]):
        assert combine(passes).second_look == look
    assert combine([("base", clear), ("hires", dataclasses.replace(flagged, second_look=None))]).second_look is None
