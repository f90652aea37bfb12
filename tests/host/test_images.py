"""What of a job goes into generation parameters, and what file names can say."""

import types

import pytest

from lib_memstab import badge
from lib_memstab.host import images
from lib_memstab.host.hooks import Hooks

REPLAY, PLAIN = "replay this picture", "an ordinary thing"


@pytest.mark.parametrize("keys", [badge.KEYS, (badge.VERDICT_KEY,), ()])
def test_generation_parameters_have_what_is_wanted_and_the_chunk_all(extension, keys):
    usual = extension.hooks
    extension.hooks = Hooks(
        extension.host, extension.choose, usual._facts, extension.learner, infotext_keys=lambda: keys
    )
    entries = {}
    picture = extension.sample([REPLAY], {"mode": "detect"}, extra_generation_params=entries)[0]
    assert set(picture.infotext) == set(extension.grid) == set(entries) == set(keys)
    assert picture.report.verdict == "flagged"


def test_file_names_have_the_verdict_of_marked_pictures(extension, bare):
    flagged, clear = extension.sample([REPLAY, PLAIN], {"mode": "detect"})
    assert images.verdict_for_name(flagged) == "flagged"
    assert images.verdict_for_name(clear) == "clear"
    assert images.verdict_for_name(extension.sample([REPLAY], {"mode": "suppress"})[0]) == "suppressed"
    assert images.verdict_for_name(extension.sample([REPLAY], {"profile": "none"})[0]) == "not-measured"
    assert images.verdict_for_name(flagged, "flagged", "suppressed") == "flagged"
    assert images.verdict_for_name(clear, "flagged", "suppressed") is None


@pytest.mark.parametrize("info", [{}, {"memstab": "{"}, {"memstab": 7}, {"memstab": "../" * 9}])
def test_pictures_without_a_sound_badge_have_nothing_to_say_in_a_name(info):
    assert images.verdict_for_name(types.SimpleNamespace(info=info)) is None
    assert images.verdict_for_name(None) is None
