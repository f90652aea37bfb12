"""What becomes of a WebUI that refuses, breaks off or is none: over a real socket, with the answers a WebUI gives."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lib_memstab.evidence.verify.plan import Sampling, SourceError
from lib_memstab.evidence.verify.sources import WebUISource
from lib_memstab.evidence.webui import WebUI, WebUIError
from lib_memstab.host.wording import LEARN
from tests.evidence.pictures import png
from tests.evidence.standin import DROPPED, IMG2IMG, OPTIONS, SAMPLERS, TXT2IMG, VERSION, serving
from tests.test_badge import CASES

JOB = {"prompt": "a"}


@pytest.fixture
def webui(tmp_path):
    """A server that gives each page's answers in turn, the last one from then on; `asked` is what it was sent."""
    answers, asked = {}, []

    def answer(path, login, body):
        asked.append((path, login, body))
        waiting = answers.get(path, [(404, {"detail": "Not Found"})])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    with serving(answer) as port:
        client = WebUI(f"http://127.0.0.1:{port}/", "me:secret", waits=(0.01, 0.01))
        client.answers, client.asked = answers, asked
        yield client


def answered(path, info="{}"):
    return 200, {"images": [base64.b64encode(path.read_bytes()).decode()], "info": info}


def ready(webui, tmp_path, case="flagged", **options):
    webui.answers.update(
        {
            OPTIONS: [(200, {"samples_format": "png", "sd_model_checkpoint": "x", **options})],
            VERSION: [(200, {"version": "0.1.0", "host": "WebUI 1.10.1"})],
            SAMPLERS: [(200, [{"name": "Euler"}])],
            TXT2IMG: [answered(png(tmp_path / "seen.png", *CASES[case]))],
        }
    )
    return webui


def test_a_picture_comes_with_its_badge_and_the_login_is_sent(webui, tmp_path):
    ready(webui, tmp_path)
    picture = webui.sample(JOB, {"enabled": True, "mode": "detect"})
    assert picture.pixels.shape == (8, 8, 3)
    assert picture.report == CASES["flagged"][1]
    path, login, body = webui.asked[-1]
    assert path == TXT2IMG
    assert login == f"Basic {base64.b64encode(b'me:secret').decode()}"
    assert body["alwayson_scripts"] == {"MemStab": {"args": [{"enabled": True, "mode": "detect"}]}}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((404, {"detail": "Not Found"}), "start it with --api"),
        ((401, {"detail": "Incorrect username or password"}), "--auth USER:PASSWORD"),
        ((422, {"error": "HTTPException", "detail": "always on script MemStab not found"}), "MemStab not found"),
        ((500, {"error": "OutOfMemoryError", "detail": "", "errors": "CUDA out of memory"}), "CUDA out of memory"),
        ((502, b"<html>bad gateway</html>"), "status 502"),
        ((200, b"<html>hello</html>"), "something else than JSON"),
        ((200, {"images": []}), "something else than one picture"),
        ((200, {"images": ["AAAA"]}), "set its File format"),
    ],
)
def test_every_refusal_says_what_to_do(webui, answer, told):
    webui.answers[TXT2IMG] = [answer]
    with pytest.raises(WebUIError, match=told):
        webui.sample(JOB, {})
    assert len(webui.asked) == 1


def test_a_lost_connection_is_tried_again_and_then_given_up(webui, tmp_path):
    ready(webui, tmp_path)
    webui.answers[TXT2IMG] = [DROPPED, DROPPED, *webui.answers[TXT2IMG]]
    assert webui.sample(JOB, {}).report is not None
    assert len(webui.asked) == 3
    webui.answers[TXT2IMG] = [DROPPED]
    with pytest.raises(WebUIError, match="is the WebUI running"):
        webui.sample(JOB, {})
    assert len(webui.asked) == 6


def test_the_first_question_does_not_wait_for_a_webui_that_is_not_there():
    with pytest.raises(WebUIError, match="is the WebUI running"):
        WebUI("http://127.0.0.1:9", waits=(60.0,)).options()


@pytest.mark.parametrize("address", ["127.0.0.1:7860", "file:///etc/passwd", "ftp://x", "http://"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(WebUIError, match=r"http://127\.0\.0\.1:7860"):
        WebUI(address)


def test_a_jpeg_is_no_answer(webui):
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "JPEG")
    webui.answers[TXT2IMG] = [(200, {"images": [base64.b64encode(file.getvalue()).decode()]})]
    with pytest.raises(WebUIError, match="set its File format for images to png"):
        webui.sample(JOB, {})


def source(webui, sampler="Euler"):
    return WebUISource(webui, Sampling(sampler))


def test_a_webui_without_an_api_or_without_memstab_or_with_other_settings_is_refused_at_once(webui, tmp_path):
    with pytest.raises(SourceError, match="start the WebUI with --api"):
        source(webui)
    ready(webui, tmp_path)
    del webui.answers[VERSION]
    with pytest.raises(SourceError, match="install or update the extension"):
        source(webui)
    with pytest.raises(SourceError, match="it has Euler"):
        source(ready(webui, tmp_path), "Nonesuch")
    with pytest.raises(SourceError, match="File format for images to png"):
        source(ready(webui, tmp_path, samples_format="jpg"))
    with pytest.raises(SourceError, match="Emphasis mode to Original"):
        source(ready(webui, tmp_path, emphasis="None"))


def test_a_webui_that_learns_would_learn_the_lists(webui, tmp_path):
    with pytest.raises(SourceError, match="switch off Settings, MemStab"):
        source(ready(webui, tmp_path, **{LEARN.name: True}))
    source(ready(webui, tmp_path, **{LEARN.name: False}))


def test_a_prompt_that_the_webui_would_cut_is_named(webui, tmp_path):
    cutting = source(ready(webui, tmp_path, enable_prompt_comments=True))
    cutting.check(["no comment"])
    with pytest.raises(SourceError, match="switch off Settings, Stable Diffusion, Enable comments"):
        cutting.check(["no comment", "Single #1 Hits"])
    source(ready(webui, tmp_path, enable_prompt_comments=False)).check(["Single #1 Hits"])


def test_prompts_are_sent_escaped_and_modes_as_memstab_has_them(webui, tmp_path):
    asking = source(ready(webui, tmp_path))
    assert asking.take(["Wheel (16:10)"], [7], "detect")[0].report.verdict == "flagged"
    body = webui.asked[-1][2]
    assert (body["prompt"], body["seed"], body["sampler_name"]) == (r"Wheel \(16:10\)", 7, "Euler")
    assert body["alwayson_scripts"]["MemStab"]["args"] == [{"enabled": True, "mode": "detect", "sensitivity": 100.0}]
    with pytest.raises(SourceError, match="although MemStab was switched off"):
        asking.take(["a"], [7], "off")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    webui.answers[TXT2IMG] = [answered(tmp_path / "plain.png")]
    assert asking.take(["a"], [7], "off")[0].report is None
    with pytest.raises(SourceError, match="although MemStab was switched on"):
        asking.take(["a"], [7], "detect")


def test_a_checkpoint_that_nothing_was_calibrated_for_says_to_calibrate(webui, tmp_path):
    asking = source(ready(webui, tmp_path, "not measured"))
    with pytest.raises(SourceError, match="calibrate this checkpoint first"):
        asking.take(["a"], [1], "detect")


def test_a_checkpoint_that_changes_on_the_way_ends_the_run(webui, tmp_path):
    asking = source(ready(webui, tmp_path))
    seen = tmp_path / "seen.png"
    webui.answers[TXT2IMG] = [answered(seen, '{"sd_model_hash": "aaaa"}'), answered(seen, '{"sd_model_hash": "bbbb"}')]
    asking.take(["a"], [1], "detect")
    with pytest.raises(SourceError, match="another checkpoint"):
        asking.take(["a"], [2], "detect")


def test_a_job_in_the_webui_s_own_words_goes_out_as_it_is_and_one_with_a_picture_to_img2img(webui, tmp_path):
    asking = source(ready(webui, tmp_path))
    assert asking.shoot({"prompt": "[a:b:0.3]", "seed": 1, "cfg_scale": 3.0}, "detect").report is not None
    path, _, body = webui.asked[-1]
    assert (path, body["prompt"], body["cfg_scale"], body["steps"]) == (TXT2IMG, "[a:b:0.3]", 3.0, 20)
    webui.answers[IMG2IMG] = webui.answers[TXT2IMG]
    asking.shoot({"prompt": "a", "seed": 1, "init_images": ["x"]}, "detect")
    assert webui.asked[-1][0] == IMG2IMG
    other = WebUISource(webui, Sampling("Euler", "Karras"))
    assert other.job({})["scheduler"] == "Karras"
    assert "scheduler" not in other.job({"sampler_name": "Euler a"})


def test_only_a_plain_job_that_cannot_be_measured_asks_for_a_calibration(webui, tmp_path):
    asking = source(ready(webui, tmp_path, "not measured"))
    assert asking.shoot({"prompt": "a", "seed": 1, "cfg_scale": 1.0}, "detect").report.verdict == "not measured"
    with pytest.raises(SourceError, match="calibrate this checkpoint first"):
        asking.shoot({"prompt": "a", "seed": 1}, "detect")
