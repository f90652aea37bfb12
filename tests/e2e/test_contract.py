"""The real WebUI does what MemStab relies on, statement by statement."""

import pytest

from tests.host.contract import stated

pytestmark = pytest.mark.e2e


@pytest.fixture
def record(webui):
    known = {}

    def run(sampler, prompts, batch_size, nudge):
        key = (sampler, tuple(prompts), batch_size, nudge)
        if key not in known:
            wish = {"record": True, "nudge": nudge, "prompts": prompts}
            rounds = len(prompts) // batch_size
            webui.sample("", probe=wish, sampler_name=sampler, batch_size=batch_size, n_iter=rounds)
            [known[key]] = webui.call("/memstab-probe/record")[1]
        return known[key]

    return run


@stated
def test_the_webui_keeps_the_contract(record, statement):
    claim, *about = statement
    claim(record, *about)
