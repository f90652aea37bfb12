"""An attack as a page asks for it: strict fields, attacks by name, and how many pictures that is at most."""

import json

import pytest

from lib_memstab.evidence.live.names import NAMES, SAMPLERS, WITH_PICTURE
from lib_memstab.evidence.verify.plan import Sampling
from lib_memstab.host.asking import Host
from lib_memstab.host.attack import NOTHING_TO_BEGIN_FROM, read_attack
from lib_memstab.host.audit import ForbiddenError
from lib_memstab.settings import SettingsError

LACKING = "the WebUI has no sampler 'DDIM'"
BLIND = [name for name in NAMES if name not in WITH_PICTURE]


def read(body, folders=(), samplers=("Euler", *SAMPLERS[:2]), size=lambda: (768, 640)):
    return read_attack(body, Host(samplers, ("Automatic", "Karras"), size, list(folders)))


def test_prompts_alone_are_enough():
    asked = read({"prompts": "one\ntwo\n"})
    assert [prompt.text for prompt in asked.prompts.prompts] == ["one", "two"]
    assert asked.sampling == Sampling("Euler", "Automatic", 20, 7.0, 640, 768, 100.0)
    assert (asked.seeds, asked.limit, asked.ordinary, asked.reference, asked.resume) == (4, None, None, None, True)
    assert asked.names == [name for name in BLIND if name != "DDIM"]
    assert asked.left_out == [LACKING, NOTHING_TO_BEGIN_FROM]
    assert asked.pictures() == 2 * 4 * 2 * len(asked.names)
    assert [group for group, _ in asked.lists()] == ["memorized"]


def test_every_field_arrives_and_the_body_reads_as_the_same(tmp_path):
    body = {
        "prompts": json.dumps({"caption": "a", "index": 7}),
        "prompts_name": "mine.jsonl",
        "ordinary": "b\nc",
        "ordinary_name": "theirs.txt",
        "seeds": 1,
        "limit": 3,
        "attacks": [WITH_PICTURE[0], "CFG 3"],
        "sampler": "Euler a",
        "scheduler": "Karras",
        "steps": 50,
        "guidance": 5.5,
        "width": 128,
        "height": 256,
        "sensitivity": 10,
        "reference": str(tmp_path),
        "resume": False,
    }
    asked = read(body, [tmp_path], size=lambda: pytest.fail("the checkpoint would be loaded"))
    assert [(group, one.name) for group, one in asked.lists()] == [
        ("memorized", "mine.jsonl"),
        ("ordinary", "theirs.txt"),
    ]
    assert asked.sampling == Sampling("Euler a", "Karras", 50, 5.5, 128, 256, 10.0)
    assert (asked.names, asked.left_out) == (["CFG 3", WITH_PICTURE[0]], [])
    assert (asked.seeds, asked.limit, asked.reference, asked.resume) == (1, 3, tmp_path, False)
    assert asked.pictures() == 1 * 1 * 2 * 3
    assert read(json.loads(json.dumps(asked.body)), [tmp_path]) == asked


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "prompts"),
        ({"prompts": "\n"}, "prompts"),
        ({"prompts": ["a"]}, "prompts"),
        ({"prompts": "a\0b"}, "prompts"),
        ({"prompts": "a", "ordinary": ""}, "ordinary"),
        ({"prompts": "a", "ordinary_name": ""}, "ordinary_name"),
        ({"prompts": "a", "seeds": 1}, "seeds"),
        ({"prompts": "a", "sampler": "Heun"}, "sampler"),
        ({"prompts": "a", "limit": 0}, "limit"),
        ({"prompts": "a", "attacks": []}, "attacks"),
        ({"prompts": "a", "attacks": "CFG 3"}, "attacks"),
        ({"prompts": "a", "attacks": [["CFG 3"]]}, "attacks"),
        ({"prompts": "a", "attacks": ["inversion from noise"]}, "attacks"),
        ({"prompts": "a", "attacks": ["CFG 3", "DDIM"]}, "attacks"),
        ({"prompts": "a", "attacks": [WITH_PICTURE[0]]}, "attacks"),
        ({"prompts": "\n".join(map(str, range(2000))), "seeds": 1000}, "limit"),
        ({"prompts": "a", "memorized": "a"}, "memorized"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_may_be(body, field):
    with pytest.raises(SettingsError) as caught:
        read(body)
    assert caught.value.field == field
    assert caught.value.allowed


def test_a_name_that_is_none_answers_with_those_there_are():
    with pytest.raises(SettingsError) as caught:
        read({"prompts": "a", "attacks": ["CFG 4"]})
    assert all(repr(name) in caught.value.allowed for name in NAMES)


def test_attacks_that_begin_from_a_picture_are_left_out_where_others_are_left():
    asked = read({"prompts": "a", "attacks": ["CFG 3", WITH_PICTURE[0]]})
    assert (asked.names, asked.left_out) == (["CFG 3"], [NOTHING_TO_BEGIN_FROM])


def test_training_pictures_are_read_in_output_folders_only(tmp_path):
    (tmp_path / "outputs" / "training").mkdir(parents=True)
    outputs = tmp_path / "outputs"
    asked = read({"prompts": "a", "reference": str(outputs / "training")}, [outputs])
    assert asked.reference == outputs / "training"
    assert set(WITH_PICTURE) < set(asked.names)
    with pytest.raises(ForbiddenError):
        read({"prompts": "a", "reference": str(tmp_path)}, [outputs])
    with pytest.raises(FileNotFoundError):
        read({"prompts": "a", "reference": str(outputs / "none")}, [outputs])
