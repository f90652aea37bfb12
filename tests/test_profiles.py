"""The profiles that come with MemStab: usable, as published, and of the model that comes with it."""

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest

from lib_memstab.core import profile
from lib_memstab.core.measurement import REFERENCE_GUIDANCE

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "lib_memstab" / "lab" / "model" / "memstab-lab.safetensors"
SHIPPED = sorted(path for path in (ROOT / "profiles").glob("*.json") if not path.name.endswith(".schema.json"))


def test_the_lab_model_has_its_profile():
    assert "memstab-lab.json" in [path.name for path in SHIPPED]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_is_usable_and_of_the_lab_model(path):
    found = profile.load(path)
    assert found.name == path.stem
    assert found.checkpoint.sha256 == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    assert found.statistic.reference_guidance == REFERENCE_GUIDANCE


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_follows_the_published_schema(path):
    schema = json.loads((ROOT / "profiles" / "profile.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_bytes()))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_profile_is_written_again_byte_for_byte(path, tmp_path):
    again = profile.save(profile.load(path), tmp_path)
    assert again.read_bytes() == path.read_bytes().replace(b"\r\n", b"\n")
