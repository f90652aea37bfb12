"""MemStab's pages on a real gradio server, of the WebUI's version, around the stand-in."""

import socket
import time

import pytest


@pytest.fixture(scope="session")
def gradio():
    """The WebUI's gradio."""
    found = pytest.importorskip("gradio", reason="the WebUI brings gradio; tests/run.py has it beside Python 3.10")
    if not found.__version__.startswith("3.41."):
        pytest.skip(f"gradio {found.__version__} is not the WebUI's")
    return found


@pytest.fixture(scope="session")
def webui(gradio, tmp_path_factory):
    """The stand-in with MemStab's script, served."""
    from tests.host.blocks.pages import WebUI

    with pytest.MonkeyPatch.context() as monkeypatch:
        made = WebUI(monkeypatch, tmp_path_factory.mktemp("webui"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        app, made.address, _ = made.demo.queue(8).launch(
            server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, show_error=True
        )
        for callback in made.callbacks["app_started"]:
            callback(made.demo, app)
        yield made
        made.demo.close(verbose=False)


@pytest.fixture
def open_page(webui):
    """Opens one page more."""
    from tests.host.blocks.page import Page

    return lambda: Page(webui.address)


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="session")
def calibrated(webui):
    """A profile of the stand-in's model, for both modes, calibrated by a program."""
    from tests.host.blocks.page import Page

    page = Page(webui.address)
    plan = {"name": "stand-in", "guidance": [7.5], "trajectories": 64, "batch_size": 32, "width": 128, "height": 128}
    plan["prompts"] = [f"ordinary prompt {number}" for number in range(64)]
    assert page.call("/memstab/v1/calibrate", plan, "POST")[0] == 202
    while page.call("/memstab/v1/calibrate")[1]["state"] in ("waiting", "running"):
        time.sleep(0.1)
    told = page.call("/memstab/v1/calibrate")[1]
    assert told["state"] == "done", told
    return webui
