"""The figure of a profile's regions: one axes a mode, a line and a bound a band, and a legend that names them."""

import numpy as np
import pytest

from lib_memstab.core.profile import load
from tests.core.test_profile import PROFILE

pytest.importorskip("matplotlib")

from lib_memstab import plots
from lib_memstab.store import SHIPPED


@pytest.fixture(scope="module")
def shipped():
    return load(SHIPPED / "memstab-lab.json")


def test_every_mode_has_axes_with_a_centre_and_a_bound_for_each_band(shipped):
    axes = plots.region_figure(shipped).axes
    assert [one.get_title(loc="left") for one in axes] == ["txt2img, 497 trajectories", "img2img, 512 trajectories"]
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
