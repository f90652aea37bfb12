"""Flagged images that the user wants no files of: every file of theirs is left out, and nothing else is."""

import copy
import importlib
import sys

import pytest

from lib_memstab.host import images, tap
from lib_memstab.host.wording import HELD_BACK

ORDINARY, REPLAY = "ordinary prompt 3", "replay replay replay"
DETECT = {"mode": "detect"}


@pytest.fixture
def wish():
    """What the user chose."""
    return {"holding": True}


@pytest.fixture
def disk(extension, wish, monkeypatch):
    """What the stand-in saves, with MemStab standing before it, and writing badges into files as usual."""
    monkeypatch.delitem(sys.modules, "lib_memstab.host.holding", raising=False)
    holding = importlib.import_module("lib_memstab.host.holding")
    for _ in range(2):
        holding.stand_before(lambda: wish["holding"])
    found = sys.modules["modules.images"].disk
    found.saved.clear()
    found.before_saved = images.carry
    return found


def verdicts(disk):
    """Of what was saved, in order: suffix or kind, and the badge that went into the file."""
    found = []
    for suffix, grid, image in disk.saved:
        chunk = image.pnginfo.get("memstab")
        found.append((suffix or ("grid" if grid else "image"), chunk and images.badge.from_chunk(chunk).verdict))
    return found


def test_flagged_images_of_a_batch_are_not_saved_and_the_others_are(extension, disk, caplog):
    pictures = extension.sample([ORDINARY, REPLAY, ORDINARY, REPLAY], DETECT, batch_size=2)
    assert [one.report.verdict for one in pictures] == ["clear", "flagged"] * 2
    assert verdicts(disk) == [("image", "clear"), ("image", "clear"), ("grid", None)]
    assert list(extension.job.comments) == [HELD_BACK]
    assert caplog.messages.count(HELD_BACK) == 1


@pytest.mark.parametrize("memstab", [{"mode": "suppress"}, {"mode": "detect", "profile": "none such"}, None])
def test_suppressed_unmeasured_and_unwatched_images_are_saved(extension, disk, memstab):
    extension.sample([ORDINARY, REPLAY], memstab)
    assert len(disk.saved) == 3
    assert extension.job.comments == {}


def test_everything_is_saved_where_the_user_did_not_ask_otherwise(extension, disk, wish):
    wish["holding"] = False
    extension.sample([REPLAY, REPLAY], DETECT)
    assert verdicts(disk) == [("image", "flagged")] * 2 + [("grid", None)]


def test_images_before_a_hires_pass_are_held_back_by_their_own_verdict(extension, disk):
    extension.sample([ORDINARY, REPLAY, ORDINARY], DETECT, hires=True)
    before = [one for one in verdicts(disk) if one[0] == images.BEFORE_HIRES]
    assert before == [(images.BEFORE_HIRES, "clear")] * 2


def test_other_files_of_a_flagged_image_are_held_back_and_those_of_foreign_jobs_are_not(extension, disk):
    save = sys.modules["modules.images"].save_image
    seen = []

    class Other:
        """Another extension, which saves a mask, and has a copy of the job for a job of its own."""

        def __getattr__(self, name):
            return getattr(extension_hooks, name)

        def after_composite(self, p, image):
            extension_hooks.after_composite(p, image)
            copied = copy.copy(p)
            assert tap.watch_of(copied) is None
            seen.append([save(image, "", "", p=p, suffix="-mask"), save(image, "", "", p=copied, suffix="-theirs")])
            save(image, "", "", suffix="-alone")

    extension_hooks, extension.hooks = extension.hooks, Other()
    extension.sample([REPLAY], DETECT)
    assert seen[0][0] == (None, None)
    assert [suffix for suffix, _, _ in disk.saved] == ["-theirs", "-alone", ""]
    assert disk.saved[-1][1]
