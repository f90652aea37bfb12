"""Who may use MemStab's pages: those who may use the WebUI's own."""

import urllib.error
import urllib.request

import pytest

from tests.e2e.conftest import place_of, running

pytestmark = pytest.mark.e2e

PAGES = (
    ("/version", "GET"),
    ("/schema", "GET"),
    ("/profiles", "GET"),
    ("/presets", "GET"),
    ("/audit", "GET"),
    ("/audit", "POST"),
    ("/reports/last", "GET"),
    ("/learned", "GET"),
    ("/learned", "DELETE"),
    ("/calibrate", "GET"),
    ("/calibrate", "POST"),
    ("/calibrate", "DELETE"),
    ("/verify", "GET"),
    ("/verify", "POST"),
    ("/verify", "DELETE"),
    ("/verify/report", "GET"),
    ("/attack", "GET"),
    ("/attack", "POST"),
    ("/attack", "DELETE"),
    ("/attack/report", "GET"),
    ("/extract", "POST"),
)
JOB = {"prompt": "x", "steps": 1, "width": 64, "height": 64}


@pytest.fixture
def folder(request):
    place = place_of(request.config)
    if place.startswith("http"):
        pytest.skip("a WebUI that runs already cannot be started with other arguments")
    return place


def test_a_password_of_the_webui_guards_memstabs_pages_too(folder, tmp_path):
    with running(folder, tmp_path, "--api", "--api-auth", "ann:secret,bob:other") as webui:
        for login in ("", "ann:other", "bob:secret", "ann:", ":"):
            assert webui.call("/sdapi/v1/options", login=login)[0] == 401
            for path, method in PAGES:
                assert webui.call(f"/memstab/v1{path}", method=method, login=login)[0] == 401, (path, method, login)
            bad = {**JOB, "alwayson_scripts": {"MemStab": {"args": [{"profile": "no such"}]}}}
            assert webui.call("/sdapi/v1/txt2img", bad, login=login)[0] == 401
        assert webui.call("/memstab/v1/calibrate", login="ann:secret")[1]["state"] == "idle"
        assert webui.call("/memstab/v1/version", login="bob:other")[0] == 200
        status, answer = webui.call("/sdapi/v1/txt2img", bad, login="ann:secret")
        assert (status, answer["detail"]["field"]) == (422, "profile")
        good = {**JOB, "alwayson_scripts": {"MemStab": {"args": [{"enabled": True}]}}}
        assert webui.call("/sdapi/v1/txt2img", good, login="ann:secret")[0] == 200


def test_without_the_webuis_api_there_are_no_pages_of_memstab(folder, tmp_path):
    with running(folder, tmp_path) as webui:
        for path, _ in PAGES:
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{webui.address}/memstab/v1{path}", timeout=60)
            assert refused.value.code == 404
