"""MemStab's axes of the X/Y/Z plot, in a stand-in of the plot's script."""

import copy
import dataclasses
import types
from collections.abc import Callable
from typing import Any

import pytest

from lib_memstab.host import xyz
from lib_memstab.settings import SettingsError, read_args

PANEL_OFF = [False, "suppress", 100.0, 1.0, "auto"]


@dataclasses.dataclass
class AxisOption:
    label: str
    type: type
    apply: Callable
    confirm: Callable | None = None
    choices: Callable | None = None
    cost: Any = 0.0


@pytest.fixture
def axes():
    """The plot's axes by name, as MemStab leaves them when it is asked twice."""
    plot = types.SimpleNamespace(axis_options=[AxisOption("Nothing", str, None)], AxisOption=AxisOption)
    loaded = [
        types.SimpleNamespace(script_class=types.SimpleNamespace(__module__=name), module=module)
        for name, module in (("other.py", None), ("xyz_grid.py", plot))
    ]
    for _ in range(2):
        xyz.add_axes(loaded, lambda: ["mine"])
    assert len(plot.axis_options) == 1 + len(xyz.AXES)
    return {
        attribute: next(one for one in plot.axis_options if one.label == xyz.AXES[attribute]) for attribute in xyz.AXES
    }


def test_without_the_plots_script_nothing_happens():
    xyz.add_axes([], list)


def test_texts_offer_their_choices_and_numbers_take_ranges(axes):
    assert axes["mode"].choices() == ["off", "suppress", "detect", "stop", "retry"]
    assert axes["profile"].choices() == ["auto", "mine"]
    assert [axes[name].choices for name in ("sensitivity", "strength")] == [None, None]
    assert [axes[name].type for name in ("sensitivity", "strength")] == [float, float]


@pytest.mark.parametrize(
    ("attribute", "values", "said"),
    [
        ("mode", ["detect", "destroy"], "'suppress' or 'detect' or 'stop' or 'retry' or 'off', not 'destroy'"),
        ("sensitivity", [10.0, 1.0], "a number from 2 to 100000, not 1.0"),
        ("strength", [0.0, 1.1], "a number from 0 to 1, not 1.1"),
        ("strength", [float("nan")], "a number from 0 to 1, not nan"),
        ("profile", ["other"], r"'auto' or a profile's name \('mine'\), not 'other'"),
        ("mode", [], "'suppress' or 'detect' or 'stop' or 'retry' or 'off', not 'nothing'"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_those_that_can(axes, attribute, values, said):
    with pytest.raises(SettingsError, match=said) as refused:
        axes[attribute].confirm(None, values)
    assert xyz.AXES[attribute] in str(refused.value)


def test_usable_values_are_confirmed_and_every_cell_has_its_own(axes):
    job = types.SimpleNamespace()
    cells = []
    for attribute, values in (
        ("mode", ["off", "detect"]),
        ("sensitivity", [2.0, 100000.0]),
        ("strength", [0.1 + 0.2, 1.0]),
        ("profile", ["auto", "mine"]),
    ):
        axes[attribute].confirm(job, values)
        for value in values:
            cell = copy.copy(job)
            axes[attribute].apply(cell, value, values)
            cells.append(read_args(PANEL_OFF, changes=xyz.changes_of(cell)))
    assert [one.enabled for one in cells] == [False] + [True] * 7
    assert cells[1].settings.mode == "detect"
    assert [one.settings.sensitivity for one in cells[2:4]] == [2, 100000]
    assert [one.settings.strength for one in cells[4:6]] == [0.3, 1]
    assert [one.settings.profile for one in cells[6:]] == ["auto", "mine"]
    assert xyz.changes_of(job) == {}


@pytest.mark.parametrize("order", [("mode", "strength"), ("strength", "mode")])
def test_off_is_off_whatever_another_axis_says(axes, order):
    values = {"mode": "off", "strength": 0.5}
    cell = types.SimpleNamespace()
    for attribute in order:
        axes[attribute].apply(cell, values[attribute], [])
    assert not read_args([{"enabled": True}], changes=xyz.changes_of(cell)).enabled


def test_a_cell_is_judged_by_its_own_settings(extension, axes):
    def cell(args, **values):
        changes = types.SimpleNamespace()
        for attribute, value in values.items():
            axes[attribute].apply(changes, value, [])
        return extension.sample(["replay this picture"], args, **vars(changes))[0]

    assert "MemStab" not in cell({"mode": "detect"}, mode="off").infotext
    assert cell(None, mode="detect").infotext["MemStab"] == "detect 100 strength 1"
    assert cell({"mode": "detect"}, strength=0.25, sensitivity=50.0).infotext["MemStab"] == "detect 50 strength 0.25"
