"""A verification as a page asks for it: strict fields, lists as text, and which prompts are MemStab's own."""

import json

import pytest

from lib_memstab.calibration.ordinary import listed
from lib_memstab.calibration.plan import Plan
from lib_memstab.evidence.verify.plan import Sampling
from lib_memstab.host.asking import Host
from lib_memstab.host.audit import ForbiddenError
from lib_memstab.host.verification import OWN, own_prompts, read_verification
from lib_memstab.settings import SettingsError

SAMPLERS, SCHEDULERS = ["Euler", "DDIM"], ["Automatic", "Karras"]
WORDS = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]


def read(body, folders=(), size=lambda: (768, 640)):
    return read_verification(body, Host(SAMPLERS, SCHEDULERS, size, list(folders)))


def test_a_list_alone_is_enough():
    asked = read({"memorized": "one\ntwo\n"})
    assert [prompt.text for prompt in asked.memorized.prompts] == ["one", "two"]
    assert asked.sampling == Sampling("Euler", "Automatic", 20, 7.0, 640, 768, 100.0)
    assert (asked.seeds, asked.limit, asked.reference, asked.resume) == (4, None, None, True)


def test_every_field_arrives_and_the_body_reads_as_the_same(tmp_path):
    body = {
        "memorized": json.dumps({"caption": "a", "index": 7, "type": "TM"}),
        "memorized_name": "mine.jsonl",
        "ordinary": "Caption;URL;type\nb;u;N",
        "ordinary_name": "theirs.csv",
        "seeds": 1,
        "limit": 3,
        "sampler": "DDIM",
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
    assert (asked.memorized.shape, asked.ordinary.shape) == ("JSONL", "CSV")
    assert asked.memorized.prompts[0].kind == "template"
    assert [one.name for _, one in asked.lists(list)] == ["mine.jsonl", "theirs.csv"]
    assert asked.sampling == Sampling("DDIM", "Karras", 50, 5.5, 128, 256, 10.0)
    assert (asked.seeds, asked.limit, asked.reference, asked.resume) == (1, 3, tmp_path, False)
    assert read(json.loads(json.dumps(asked.body)), [tmp_path]) == asked


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "memorized"),
        ({"memorized": "\n"}, "memorized"),
        ({"memorized": "a\0b"}, "memorized"),
        ({"memorized": "\ud800"}, "memorized"),
        ({"memorized": "a", "ordinary": ""}, "ordinary"),
        ({"memorized": "a", "memorized_name": "a\nb"}, "memorized_name"),
        ({"memorized": "a", "seeds": 1}, "seeds"),
        ({"memorized": "a", "seeds": True}, "seeds"),
        ({"memorized": "a", "sampler": "Heun"}, "sampler"),
        ({"memorized": "a", "scheduler": ["Automatic"]}, "scheduler"),
        ({"memorized": "a", "width": 100}, "width"),
        ({"memorized": "a", "limit": True}, "limit"),
        ({"memorized": "\n".join(map(str, range(2000))), "seeds": 1000}, "limit"),
        ({"memorized": "a", "sscd": "x.pt"}, "sscd"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_may_be(body, field):
    with pytest.raises(SettingsError) as caught:
        read(body)
    assert caught.value.field == field
    assert caught.value.allowed


def test_training_pictures_are_read_in_output_folders_only(tmp_path):
    (tmp_path / "outputs" / "training").mkdir(parents=True)
    outputs = tmp_path / "outputs"
    asked = read({"memorized": "a", "reference": str(outputs / "training")}, [outputs])
    assert asked.reference == outputs / "training"
    with pytest.raises(ForbiddenError):
        read({"memorized": "a", "reference": str(tmp_path)}, [outputs])
    with pytest.raises(FileNotFoundError):
        read({"memorized": "a", "reference": str(outputs / "none")}, [outputs])


@pytest.mark.parametrize("vocabulary", [[], WORDS], ids=["a model that does not say", "a model of few words"])
def test_memstabs_own_prompts_are_none_that_a_calibration_has_seen(vocabulary):
    choosing = Plan("Euler", "Automatic", 20, 64, 64, (7.0,), trajectories=4096).choosing()
    seen = listed(vocabulary, len(choosing.kinds) * choosing.candidates)
    assert len(seen) == 1536
    own = own_prompts(vocabulary, 300)
    texts = [prompt.text for prompt in own.prompts]
    assert len(set(texts)) == 300
    assert set(texts) & set(seen) == set()
    assert own == own_prompts(vocabulary, 300)
    assert own_prompts(vocabulary, 5).prompts == own.prompts[:5]


def test_without_ordinary_prompts_there_are_as_many_of_memstabs_as_of_the_list():
    asked = read({"memorized": "a\nb\nc", "limit": 2})
    _, (group, ordinary) = asked.lists(lambda: WORDS)
    assert (group, ordinary.name, len(ordinary.prompts)) == ("ordinary", OWN, 2)
