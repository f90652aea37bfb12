"""What programs are told of MemStab's pages: everything, whatever Pydantic the WebUI has."""

import dataclasses
import types

import jsonschema
import numpy as np
import pytest

from lib_memstab.calibration.calibrator import Progress
from lib_memstab.calibration.plan import read_plan
from lib_memstab.core.calibration import with_likeness
from lib_memstab.core.profile import load
from lib_memstab.host import background
from lib_memstab.host.asking import Host
from lib_memstab.host.attack import read_attack
from lib_memstab.host.audit import read_audit
from lib_memstab.host.evidence_openapi import ATTACK, EXTRACTION, VERIFICATION
from lib_memstab.host.extracts import read_extraction
from lib_memstab.host.openapi import AUDIT, PLAN
from lib_memstab.host.verification import read_verification
from lib_memstab.settings import SettingsError
from lib_memstab.store import Store
from tests.core.test_profile import PROFILE, UNLOOKED

SAMPLERS, SCHEDULERS = ["Euler", "DDIM"], ["Automatic"]


@pytest.fixture
def app():
    fastapi = pytest.importorskip("fastapi", reason="the WebUI brings it")
    from lib_memstab.host import api

    made = fastapi.FastAPI()
    stub = types.SimpleNamespace(names=list)
    parts = api.Parts(lambda: "a host", *[stub] * 4, *[list] * (len(dataclasses.fields(api.Parts)) - 6), "ann:secret")
    api.add_pages(made, parts)
    return made


def test_every_page_is_described_with_all_its_answers(app):
    told = app.openapi()
    pages = {path: told["paths"][path] for path in told["paths"] if path.startswith("/memstab/v1")}
    assert {(path.removeprefix("/memstab/v1"), method) for path, own in pages.items() for method in own} == {
        ("/version", "get"), ("/schema", "get"), ("/profiles", "get"), ("/reports/last", "get"), ("/learned", "get"),
        ("/learned", "delete"), ("/calibrate", "get"), ("/calibrate", "post"), ("/calibrate", "delete"),
        ("/audit", "get"), ("/audit", "post"), ("/presets", "get"), ("/extract", "post"), ("/verify", "get"),
        ("/verify", "post"), ("/verify", "delete"), ("/verify/report", "get"), ("/attack", "get"),
        ("/attack", "post"), ("/attack", "delete"), ("/attack/report", "get"),
    }  # fmt: skip
    for own in pages.values():
        for page in own.values():
            assert page["tags"] == ["MemStab"]
            assert page["summary"]
            assert page["description"].endswith(".")
            assert page["security"]
            assert "401" in page["responses"]
            for answer in page["responses"].values():
                assert answer["description"]
                assert answer["content"]["application/json"]["schema"]["type"] in ("object", "array")
    start = pages["/memstab/v1/calibrate"]["post"]
    assert set(start["responses"]) == {"202", "401", "409", "422"}
    assert start["requestBody"]["content"]["application/json"]["schema"] == PLAN
    refusal = start["responses"]["422"]["content"]["application/json"]["schema"]
    assert set(refusal["properties"]) == {"error", "field", "allowed"}
    for page, kind in (("calibrate", Progress), ("verify", background.Progress), ("attack", background.Progress)):
        progress = pages[f"/memstab/v1/{page}"]["post"]["responses"]["202"]["content"]["application/json"]["schema"]
        assert set(progress["properties"]) == {one.name for one in dataclasses.fields(kind)}


def test_the_page_of_profiles_says_in_which_modes_suspicious_images_get_a_second_look(tmp_path):
    fastapi = pytest.importorskip("fastapi", reason="the WebUI brings it")
    client = pytest.importorskip("fastapi.testclient", reason="httpx is not installed")
    from lib_memstab.host import api

    known = PROFILE.modes["txt2img"]
    region = with_likeness(known.region, [band.conditions for band in known.region.bands], np.array([0.1, 0.2]))
    store = Store(lambda: tmp_path, tmp_path / "shipped")
    modes = {"img2img": load(UNLOOKED).modes["txt2img"], "txt2img": dataclasses.replace(known, region=region)}
    store.save(dataclasses.replace(PROFILE, modes=modes))
    (tmp_path / "broken.json").write_text("{")
    app, rest = fastapi.FastAPI(), len(dataclasses.fields(api.Parts)) - 3
    api.add_pages(app, api.Parts(lambda: "a host", store, *[None] * rest, credentials=""))
    told = client.TestClient(app).get("/memstab/v1/profiles").json()
    assert {one["name"]: (one["modes"], one["second_looks"]) for one in told} == {
        "broken": ([], []),
        PROFILE.name: (["img2img", "txt2img"], ["txt2img"]),
    }
    page = app.openapi()["paths"]["/memstab/v1/profiles"]["get"]["responses"]["200"]["content"]
    schema = page["application/json"]["schema"]["items"]
    assert all(set(one) == set(schema["properties"]) for one in told)


def test_a_calibrations_fields_are_those_that_are_read():
    with pytest.raises(SettingsError) as error:
        read_plan({"foreign": 1}, SAMPLERS, SCHEDULERS)
    assert set(error.value.allowed.removeprefix("one of ").split(", ")) == set(PLAN["properties"])
    defaults = {name: one["default"] for name, one in PLAN["properties"].items() if "default" in one}
    assert read_plan(defaults, SAMPLERS, SCHEDULERS) == read_plan({}, SAMPLERS, SCHEDULERS)


@pytest.mark.parametrize(
    "body",
    [
        {"name": "my profile", "steps": 150, "width": 64, "height": 2048, "modes": "txt2img"},
        {"guidance": [7.5, 1], "trajectories": 4096, "batch_size": 64, "prompts": ["a"] * 8, "resume": False},
        {"guidance": 30, "suffix": "x" * 2000, "pictures": True},
        {"name": "a/b"}, {"steps": 0}, {"steps": 151}, {"steps": "20"}, {"width": 65}, {"height": 2056},
        {"guidance": []}, {"guidance": [7, 7]}, {"guidance": 0.5}, {"guidance": list(range(1, 10))},
        {"trajectories": 7}, {"batch_size": 65}, {"modes": "img2img"}, {"prompts": ["a"] * 7}, {"suffix": "x" * 2001},
        {"resume": 1}, {"pictures": "no"}, {"foreign": 1},
    ],
)  # fmt: skip
def test_a_calibrations_body_is_read_if_it_is_as_told(body):
    try:
        read_plan(body, SAMPLERS, SCHEDULERS)
        read = True
    except SettingsError:
        read = False
    assert jsonschema.Draft202012Validator(PLAN).is_valid(body) == read


@pytest.mark.parametrize(
    "body",
    [
        {}, {"folder": None, "recursive": False, "only": ["flagged", "no badge"], "since": "2026-11-25"},
        {"recursive": 1}, {"only": "flagged"}, {"only": ["bad"]}, {"foreign": 1}, {"folder": 1},
    ],
)  # fmt: skip
def test_an_audits_body_is_read_if_it_is_as_told(body):
    try:
        read_audit(body, [])
        read = True
    except SettingsError:
        read = False
    assert fits(AUDIT, body) == read


def fits(schema, body):
    """Whether a body is as an OpenAPI 3.0 schema has it, which writes null in a way of its own."""
    told = {
        name: {**one, "type": [one["type"], "null"]} if one.get("nullable") else one
        for name, one in schema["properties"].items()
    }
    return jsonschema.Draft202012Validator({**schema, "properties": told}).is_valid(body)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"memorized": "a\nb"}, {"memorized": "a", "ordinary": None, "limit": None, "width": None},
        {"memorized": "a", "ordinary": "b", "seeds": 9, "limit": 3, "sampler": "DDIM", "scheduler": "Automatic"},
        {"memorized": "a", "steps": 2, "guidance": 30, "width": 64, "height": 2048, "sensitivity": 1e5},
        {"memorized": "a", "resume": False, "reference": None}, {"memorized": ""}, {"memorized": ["a"]},
        {"memorized": "a", "ordinary": 1},
        {"memorized": "a", "seeds": 0}, {"memorized": "a", "seeds": 1001}, {"memorized": "a", "seeds": "4"},
        {"memorized": "a", "limit": 0},
        {"memorized": "a", "steps": 1}, {"memorized": "a", "guidance": 0.5}, {"memorized": "a", "width": 65},
        {"memorized": "a", "height": 2056}, {"memorized": "a", "sensitivity": 1}, {"memorized": "a", "resume": 1},
        {"memorized": "a", "memorized_name": ""}, {"memorized": "a", "ordinary_name": "x" * 81},
        {"memorized": "a", "reference": 1}, {"memorized": "a", "foreign": 1},
    ],
)  # fmt: skip
def test_a_verifications_body_is_read_if_it_is_as_told(body):
    try:
        read_verification(body, Host(SAMPLERS, SCHEDULERS, lambda: (512, 512), []))
        read = True
    except SettingsError:
        read = False
    assert fits(VERIFICATION, body) == read


@pytest.mark.parametrize(
    "body",
    [
        {}, {"prompts": "a\nb"}, {"prompts": "a", "ordinary": None, "limit": None, "attacks": None},
        {"prompts": "a", "ordinary": "b", "seeds": 9, "attacks": ["CFG 3", "DDIM"], "sampler": "DDIM"},
        {"prompts": ""}, {"prompts": ["a"]}, {"prompts": "a", "attacks": []}, {"prompts": "a", "attacks": "CFG 3"},
        {"prompts": "a", "attacks": ["CFG 4"]}, {"prompts": "a", "seeds": 0}, {"prompts": "a", "limit": 0},
        {"prompts": "a", "prompts_name": ""}, {"prompts": "a", "ordinary_name": "x" * 81}, {"prompts": "a", "steps": 1},
        {"prompts": "a", "resume": 1}, {"prompts": "a", "reference": 1}, {"prompts": "a", "memorized": "a"},
    ],
)  # fmt: skip
def test_an_attacks_body_is_read_if_it_is_as_told(body):
    try:
        read_attack(body, Host(SAMPLERS, SCHEDULERS, lambda: (512, 512), []))
        read = True
    except SettingsError:
        read = False
    assert fits(ATTACK, body) == read


@pytest.mark.parametrize(
    "body",
    [
        {}, {"folder": None, "recursive": False, "distance": 1, "clique": 2}, {"distance": 0.1, "clique": 64},
        {"folder": 1}, {"recursive": 1}, {"distance": 0}, {"distance": 1.1}, {"clique": 1}, {"clique": 65},
        {"clique": "4"}, {"foreign": 1},
    ],
)  # fmt: skip
def test_an_extractions_body_is_read_if_it_is_as_told(body):
    try:
        read_extraction(body, [])
        read = True
    except SettingsError:
        read = False
    assert fits(EXTRACTION, body) == read
