"""What MemStab works with in the WebUI, behind its pages: loaded later than these (see `late`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules import scripts

from lib_memstab.core.profile import Checkpoint
from lib_memstab.host import matching, options, wording
from lib_memstab.host.a1111 import WebUI, facts_of, facts_of_fields
from lib_memstab.host.a1111_calibrate import Sampling, the_calibrator
from lib_memstab.host.a1111_works import the_attacker, the_turn, the_verifier
from lib_memstab.host.facts import Applied, PassFacts
from lib_memstab.host.hooks import Hooks
from lib_memstab.host.learner import Learner
from lib_memstab.host.places import own_folder
from lib_memstab.store import Store

MISSING_HOOK = "this WebUI is too old: MemStab needs 1.10 or newer"


class Works:
    """The WebUI as a host, what follows its jobs, what learns from them, what calibrates, verifies and attacks."""

    def __init__(self, store: Store) -> None:
        lacks = "" if hasattr(scripts.Script, "process_before_every_sampling") else MISSING_HOOK
        self._store = store
        self.host = WebUI()
        self.sampling = Sampling(self.host)
        self.calibrator, self.verifier, self.attacker = the_calibrator(), the_verifier(), the_attacker()
        self.turn = the_turn()
        self.learner = Learner(self.host, lambda: own_folder() / "learned", store, options.learning)
        self.hooks = Hooks(self.host, self.choose, facts_of, self.learner, lacks, options.infotext_keys)

    def choose(self, facts: PassFacts, checkpoint: Checkpoint, wanted: str) -> Applied:
        """What to judge a pass by, of the profiles that are stored now."""
        return matching.choose(self._store.all(), facts, checkpoint, wanted)

    def status(self, wanted: str, fields: Sequence[Any]) -> str:
        """Which profile applies to the panel's tab, and why, or that none does and what to do."""
        if not self.host.loaded():
            return wording.NOT_LOADED
        return self.choose(facts_of_fields(*fields), self.host.checkpoint(), wanted).reason
