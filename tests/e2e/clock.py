"""Measures what MemStab adds to a WebUI's start; put into an extension that is loaded before it.

Processor time of the starting thread, because a busy machine stretches every other. Asked for at /memstab-probe/clock:
milliseconds of loading the script, of building its panel (the WebUI does that several times), and of its callbacks.
"""

import compileall
import functools
import sys
import time
from collections import defaultdict
from pathlib import Path

from modules import script_callbacks, script_loading

SCRIPT = "memstab.py"
SPENT = defaultdict(float)
WHEN_STARTING = ("before_ui", "ui_tabs", "ui_settings", "app_started")


def timed(name, function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        begun = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[name] += 1000 * (time.thread_time() - begun)

    return run


def load_module(path):
    if not path.endswith(SCRIPT):
        return LOAD(path)
    # As at every start but the first, after which Python keeps what it compiled.
    for folder in ("lib_memstab", "scripts"):
        compileall.compile_dir(Path(path).parents[1] / folder, quiet=2)
    module = timed("load", LOAD)(path)
    module.MemStab.ui = timed("panel", module.MemStab.ui)
    return module


def timed_tabs(function):
    """The callback that makes tabs, and putting them into the page."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        tabs = timed("ui_tabs", function)(*args, **kwargs)
        for tab, *_ in tabs:
            tab.render = timed("ui_tabs", tab.render)
        return tabs

    return run


def add_callback(callbacks, function, *, name=None, category="unknown", filename=None):
    filename = filename or sys._getframe(2).f_code.co_filename
    if filename.endswith(SCRIPT) and category in WHEN_STARTING:
        function = timed_tabs(function) if category == "ui_tabs" else timed(category, function)
    return ADD(callbacks, function, name=name, category=category, filename=filename)


LOAD, script_loading.load_module = script_loading.load_module, load_module
ADD, script_callbacks.add_callback = script_callbacks.add_callback, add_callback
script_callbacks.on_app_started(
    lambda _, app: app.add_api_route("/memstab-probe/clock", lambda: dict(SPENT), methods=["GET"])
)
