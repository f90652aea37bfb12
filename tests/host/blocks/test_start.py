"""What the WebUI's start loads of MemStab, and that the rest is there by itself before anybody needs it."""

import json
import subprocess
import sys
from pathlib import Path

LATER = {
    "lib_memstab.calibration.calibrator",
    "lib_memstab.core.monitor",
    "lib_memstab.host.hooks",
    "lib_memstab.host.a1111",
    "lib_memstab.host.works",
    "lib_memstab.plots",
    "lib_memstab.profile_command",
}
START = """
import json, pathlib, sys, tempfile
import pytest
from tests.host.blocks.pages import WebUI

with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
    webui = WebUI(patch, pathlib.Path(folder))
    pages = sorted(sys.modules)
    {then}
    print(json.dumps([pages, sorted(sys.modules)]))
"""


def start(then):
    """Modules that a start has loaded in a process of its own, and what `then` adds."""
    code = START.replace("{then}", then)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=120
    )
    assert done.returncode == 0, done.stderr
    return map(set, json.loads(done.stdout.splitlines()[-1]))


def test_pages_are_built_without_what_only_jobs_and_clicks_need(gradio):
    pages, then = start("webui.script.WORKS.prepare().join()")
    assert LATER & pages == set()
    assert {"lib_memstab.host.hooks", "lib_memstab.core.monitor", "lib_memstab.calibration.calibrator"} <= then


def test_a_tab_that_cannot_be_made_is_told_in_its_place_and_the_page_is_there(gradio):
    start(
        """
    webui.script.sampler_names = lambda: 1 / 0
    with __import__("gradio").Blocks() as page:
        [(tab, _, _)] = webui.script.add_tab()
        tab.render()
    shown = {one["props"].get("elem_id"): one["props"] for one in page.get_config_file()["components"]}
    assert "division by zero" in shown["memstab_missing"]["value"]
    """.strip()
    )


def test_a_program_that_cannot_be_loaded_whole_says_so_beside_the_picture(gradio):
    start(
        """
    sys.modules["lib_memstab.core.monitor"] = None
    script = webui.script.MemStab()
    for enabled in (True, False):
        said = webui.generate(script, ["a cat"], [enabled])
        assert said["chunk"] is None
        assert ["restart the WebUI" in one for one in said["comments"]] == [True] * enabled, said
    assert "restart the WebUI" in webui.script.status("auto", ["Euler", "Automatic", 20, 128, 128, 7.5])
    """.strip()
    )
