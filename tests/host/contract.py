"""What MemStab relies on a host for, as statements about a recorded job; asserted of stand-in and real WebUI alike.

`record(sampler, prompts, batch_size, nudge)` runs a job and gives its events, see `tests/e2e/memstab_recorder.py`.
"""

import pytest

ORDER = ("process", "process_batch", "before_sampling", "denoiser", "after", "step", "post_sample")
ENDING = ("postprocess_image", "after_composite", "infotext")


def of(events, name):
    return [facts for found, facts in events if found == name]


def names(events):
    return [name for name, _ in events]


def hooks_come_in_order(record):
    events = record("Euler", ["one", "two", "three", "four"], 2, "")
    found = [name for name in names(events) if name not in ("infotext", "step")]
    firsts = [found.index(name) for name in ORDER if name != "step"]
    assert firsts == sorted(firsts)
    assert found.count("process") == found.count("postprocess") == 1
    assert found.count("process_batch") == found.count("before_sampling") == found.count("post_sample") == 2
    assert found.count("postprocess_image") == found.count("after_composite") == 4
    assert found[-1] == "postprocess"
    sampled = [name for name in names(events) if name in ("denoiser", "after", "step")]
    assert sampled[:6] == ["denoiser", "after", "step"] * 2 or sampled[:6] == ["denoiser", "step", "after"] * 2


def infotexts_count_within_their_batch(record):
    events = record("Euler", ["one", "two", "three", "four"], 2, "")
    found, batch = [], -1
    for name, facts in events:
        batch += name == "post_sample"
        if name == "infotext" and batch >= 0 and not facts["main"]:
            found.append((batch, facts["index"]))
    assert sorted(set(found)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def rows_are_parts_and_then_images(record):
    events = record("Euler", ["one AND two :0.5", "three"], 2, "")
    for facts in of(events, "denoiser"):
        assert facts["weights"] == [[1.0, 0.5], [1.0]]
        assert (facts["rows"], facts["texts"]) == (5, 3)
        assert facts["repeated"]
    assert all(facts["rows"] == 2 for facts in of(events, "after"))


def guidance_is_a_weighted_sum(record, sampler):
    for prompts in (["one"], ["one AND two :0.5", "three"]):
        assert max(facts["gap"] for facts in of(record(sampler, prompts, len(prompts), ""), "after")) < 1e-4


def sigma_samplers_speak_of_x0(record):
    events = record("Euler", ["one"], 1, "")
    levels = [facts["level"][0] for facts in of(events, "denoiser")]
    assert levels == sorted(levels, reverse=True)
    assert 14 < levels[0] < 15
    assert not of(events, "denoiser")[0]["has_alphas"]
    assert of(events, "after")[0]["rms_from_x0"] == pytest.approx(1, abs=0.1)


def timestep_samplers_speak_of_noise(record):
    events = record("DDIM", ["one"], 1, "")
    levels = [facts["level"][0] for facts in of(events, "denoiser")]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == 951
    assert of(events, "denoiser")[0]["has_alphas"]
    assert of(events, "after")[0]["rms"] == pytest.approx(1, abs=0.1)
    assert all(facts["whole_zero"] for facts in of(events, "step"))


def the_empty_prompt_is_encoded_on_request(record):
    events = record("Euler", ["one", "two", "three", "four"], 2, "")
    assert {facts["empty_gap"] for facts in of(events, "denoiser")} == {0}


def pieces_of_a_text_are_encoded_by_their_tokens(record):
    events = record("Euler", ["one"], 1, "")
    assert {facts["piece_gap"] for facts in of(events, "denoiser")} == {0}
    assert {facts["piece_fixes"] for facts in of(events, "denoiser")} == {0}


def the_model_answers_once_more_and_no_callback_hears_of_it(record, sampler):
    events = record(sampler, ["one AND two :0.5", "three"], 2, "")
    assert max(facts["plain_gap"] for facts in of(events, "after")) < 1e-3
    assert max(facts["again_gap"] for facts in of(events, "after")) < 1e-3
    assert {facts["pictured"] for facts in of(events, "after")} == {False}
    assert len(of(events, "denoiser")) == len(of(events, "after"))


def steps_count_from_zero(record, sampler, evaluations, callbacks):
    events = record(sampler, ["one"], 1, "")
    assert [facts["i"] for facts in of(events, "step")] == list(range(callbacks))
    assert [facts["step"] for facts in of(events, "denoiser")] == list(range(evaluations))
    assert {facts["steps"] for facts in of(events, "denoiser")} == {20}
    assert {facts["guidance"] for facts in of(events, "denoiser")} == {7.5}


def changes_take_effect(record, sampler, nudge):
    plain, nudged = (of(record(sampler, ["one"], 1, how), "denoiser") for how in ("", nudge))
    assert plain[0]["mean"] == nudged[0]["mean"]
    assert plain[1]["mean"] != nudged[1]["mean"]


STATEMENTS = (
    (hooks_come_in_order,),
    (infotexts_count_within_their_batch,),
    (rows_are_parts_and_then_images,),
    (guidance_is_a_weighted_sum, "Euler"),
    (guidance_is_a_weighted_sum, "DDIM"),
    (sigma_samplers_speak_of_x0,),
    (timestep_samplers_speak_of_noise,),
    (the_empty_prompt_is_encoded_on_request,),
    (pieces_of_a_text_are_encoded_by_their_tokens,),
    (the_model_answers_once_more_and_no_callback_hears_of_it, "Euler"),
    (the_model_answers_once_more_and_no_callback_hears_of_it, "DDIM"),
    (steps_count_from_zero, "Euler", 20, 20),
    (steps_count_from_zero, "DDIM", 19, 19),
    (steps_count_from_zero, "Heun", 39, 20),
    (changes_take_effect, "Euler", "text"),
    (changes_take_effect, "DDIM", "text"),
    (changes_take_effect, "Euler", "after"),
    (changes_take_effect, "DDIM", "after"),
    (changes_take_effect, "Heun", "after"),
)

stated = pytest.mark.parametrize(
    "statement", STATEMENTS, ids=lambda one: " ".join(map(str, (one[0].__name__, *one[1:])))
)
