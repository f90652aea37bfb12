"""What is loaded after the start: once, for whoever asks first, and told clearly where it cannot be."""

import threading
import time

import pytest

from lib_memstab.host.late import Late, LateError, NoHooks


class Job:
    def __init__(self):
        self.comments = []

    def comment(self, text):
        self.comments.append(text)


@pytest.fixture
def broken():
    made = []

    def make():
        made.append(1)
        raise ImportError("cannot import name 'Monitor'")

    late = Late(make)
    late.made = made
    return late


def test_what_many_ask_for_at_once_is_made_once():
    made, answers = [], []

    def make():
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    late = Late(make)
    asking = [threading.Thread(target=lambda: answers.append(late())) for _ in range(8)]
    for thread in [late.prepare(), *asking]:
        if not thread.is_alive() and thread.ident is None:
            thread.start()
    for thread in asking:
        thread.join()
    assert len(made) == 1
    assert answers == made * 8


def test_nothing_is_made_before_it_is_asked_for_and_preparing_makes_it():
    made = []
    late = Late(lambda: made.append(1) or made)
    assert made == []
    late.prepare().join()
    assert made == [1]
    assert late() == [1]


def test_what_cannot_be_loaded_is_told_once_in_the_log_and_to_everyone_who_asks(broken, caplog):
    broken.prepare().join()
    for _ in range(3):
        with pytest.raises(LateError, match=r"cannot import name 'Monitor'.*restart the WebUI"):
            broken()
    assert caplog.text.count("MemStab could not be loaded") == 1
    assert "Traceback" in caplog.text
    assert len(broken.made) == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [([{"enabled": True}], True), ([{"enabled": False}], False), ([False], False), ([{"mode": "nonsense"}], True)],
)
def test_jobs_that_were_to_be_watched_say_beside_their_pictures_that_they_are_not(broken, args, told):
    with pytest.raises(LateError) as error:
        broken()
    job, hooks = Job(), NoHooks(str(error.value))
    hooks.process(job, args)
    hooks.process_batch(job)
    hooks.post_sample(job, None)
    hooks.postprocess(job)
    assert job.comments == ([str(error.value)] if told else [])
