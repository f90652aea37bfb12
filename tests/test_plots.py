"""Figures of a profile's regions and of a badge: which axes, lines and words there are, and what they stand for."""

import dataclasses

import numpy as np
import pytest

from lib_memstab.core.profile import load
from lib_memstab.core.report import PassReport, Trace, combine
from tests.core.test_profile import PROFILE
from tests.test_badge import BLIND, CASES, CLEAR, LOOKED, SUPPRESSED, TRACE

pytest.importorskip("matplotlib")

from lib_memstab import plots
from lib_memstab.store import SHIPPED


@pytest.fixture(scope="module")
def shipped():
    return load(SHIPPED / "memstab-lab.json")


def test_every_mode_has_axes_with_a_centre_and_a_bound_for_each_band(shipped):
    axes = plots.region_figure(shipped).axes
    counts = {mode: one.region.count for mode, one in shipped.modes.items()}
    titles = [f"{mode}, {counts[mode]} trajectories" for mode in ("txt2img", "img2img")]
    assert [one.get_title(loc="left") for one in axes] == titles
    for one, mode in zip(axes, ("txt2img", "img2img"), strict=True):
        region = shipped.modes[mode].region
        assert len(one.lines) == 2 * len(region.bands)
        assert one.xaxis_inverted()
        labels = [text.get_text() for text in one.get_legend().get_texts()]
        assert len(labels) == len(set(labels)) == len(region.bands) + 2
        styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in one.lines}
        assert len(styles) == len(one.lines)


def test_a_bound_is_where_one_in_a_hundred_comes(shipped):
    region = shipped.modes["txt2img"].region
    band = region.bands[-1]
    centre, bound = plots.region_figure(shipped).axes[0].lines[-2:]
    np.testing.assert_allclose(centre.get_ydata(), np.exp(band.mean)[: len(centre.get_xdata())])
    gap = np.log(bound.get_ydata() / centre.get_ydata()) / band.deviation[: len(centre.get_xdata())]
    np.testing.assert_allclose(gap, region.threshold(100))


def test_a_band_is_drawn_from_its_first_noise_level_on(shipped):
    first = plots.region_figure(shipped).axes[1].lines[0]
    start = shipped.modes["img2img"].region.bands[0].conditions.start
    assert start / 1.2 < first.get_xdata().max() < start * 1.2


def test_labels_say_conditions_and_trajectories():
    texts = plots.region_figure(PROFILE).axes[0].get_legend().get_texts()
    assert texts[0].get_text() == "CFG 7, from σ 15 (8)"
    assert [text.get_text() for text in texts[-2:]] == ["centre", "bound, 1 in 100"]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_badge_of_one_pass_has_one_axes_with_region_bound_path_and_steps_outside():
    figure = plots.badge_figure(dataclasses.replace(SUPPRESSED, passes=()))
    (axes,) = figure.axes
    assert legend(axes) == [
        "stability region",
        "its bound: about 1 in 1000 ordinary pictures crosses it",
        "this picture",
        "step outside",
    ]
    bound, path, outside = axes.lines
    assert list(path.get_xdata()) == list(TRACE.sigma)
    assert (list(path.get_ydata()), list(bound.get_ydata())) == (list(TRACE.norm), list(TRACE.high))
    assert list(outside.get_xdata()) == list(TRACE.sigma)
    assert axes.xaxis_inverted()
    assert axes.get_title(loc="left") == "suppressed, from step 2 on, score 8.21, p 1e-06, profile lab (exact)"
    assert "Looked like the replay of a training picture" in figure.get_suptitle()
    assert figure.get_suptitle().endswith("WebUI v1.10.1, MemStab 0.1.0, suppress, strength 1")


def test_a_figure_says_what_a_second_look_found():
    figure = plots.badge_figure(LOOKED)
    assert "unusually similar picture from other noise, likeness 0.93" in figure.get_suptitle().replace("\n", " ")


def test_every_measured_pass_has_axes_of_its_own():
    (one,) = plots.badge_figure(combine([("base", CLEAR), ("hires", BLIND)])).axes
    assert one.get_title(loc="left").startswith("base: clear, score 1.5, p 0.25")
    inside = dataclasses.replace(CLEAR, trace=dataclasses.replace(TRACE, norm=(1.0, None)))
    figure = plots.badge_figure(combine([("base", inside), ("hires", SUPPRESSED)]))
    assert [one.get_title(loc="left").split(",")[0] for one in figure.axes] == ["base: clear", "hires: suppressed"]
    assert ["step outside" in legend(one) for one in figure.axes] == [False, True]


def test_a_badge_without_a_path_says_so():
    with pytest.raises(plots.PlotError, match=r"nothing was measured, .* no profile"):
        plots.badge_figure(BLIND)
    many = PassReport("base", "clear", "", 1.0, 0.5, None, CLEAR.steps, TRACE)
    with pytest.raises(plots.PlotError, match="50000 passes"):
        plots.badge_figure(dataclasses.replace(CLEAR, passes=(many,) * 50_000))


@pytest.mark.parametrize(
    "trace",
    [
        Trace((0.0, -1.0), (1.0, 2.0), (0.0, 0.0), (1.0, 1.0)),
        Trace((None,), (None,), (None,), (None,)),
        Trace((1e300, 1e-300), (1e300, -1e300), (0.0, 0.0), (1.0, 1e300)),
        Trace((1.0,), (1.0,), (1.0,), (1.0,)),
    ],
)
def test_any_badge_that_is_read_is_drawn(tmp_path, trace):
    report = dataclasses.replace(CASES["flagged"][1], trace=trace, passes=(), host="$\\frac{", version="x_$y$ " * 200)
    plots.save_figure(plots.badge_figure(report), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
