"""What verifies and what attacks in AUTOMATIC1111's WebUI: one of each in the process, and one at a time.

"Reload UI" loads scripts anew, and what is on its way goes on.
"""

from __future__ import annotations

from functools import lru_cache

from lib_memstab.host.a1111 import WebUI
from lib_memstab.host.a1111_calibrate import the_calibrator
from lib_memstab.host.a1111_verify import Pictures
from lib_memstab.host.attacker import Attacker
from lib_memstab.host.background import Turn
from lib_memstab.host.places import own_folder
from lib_memstab.host.verifier import Verifier


@lru_cache(maxsize=1)
def the_turn() -> Turn:
    """What lets one work at a time begin."""
    return Turn(lambda: the_calibrator().busy)


@lru_cache(maxsize=1)
def the_verifier() -> Verifier:
    """The process's one verifier."""
    return Verifier(Pictures(WebUI(), Verifier.noun), lambda: own_folder() / "verifications", the_turn())


@lru_cache(maxsize=1)
def the_attacker() -> Attacker:
    """The process's one attacker."""
    return Attacker(Pictures(WebUI(), Attacker.noun), lambda: own_folder() / "attacks", the_turn())
