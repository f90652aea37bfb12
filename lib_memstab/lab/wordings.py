"""Other wordings of a prompt: what an attacker who knows it can write instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lib_memstab.lab.corpus import Corpus, Memorized, describe, scene_of

Wording = Callable[[str, Memorized, np.random.Generator], str]
"""(prompt, the memorized pair it belongs to, chance) -> another prompt."""

Rewording = Callable[[str, np.random.Generator], str]
"""The same by one who knows nothing but the prompt, so that it can be done on any model.

A prompt of one word, or without a letter, may come back as it is.
"""

_APPENDED = (", best quality, detailed", ", vector art", ", in the rain", " by an unknown artist", ", seen from afar")
_PREPENDED = ("a picture of ", "a small ", "not ", "detail of ", "a drawing of ")


def beginning_dropped(prompt: str, chance: np.random.Generator) -> str:
    """Without the first half of the words, where titles have their name."""
    words = prompt.split()
    return " ".join(words[(len(words) + 1) // 2 :]) or prompt


def end_dropped(prompt: str, chance: np.random.Generator) -> str:
    """Without the last half of the words, where titles have their author."""
    words = prompt.split()
    return " ".join(words[: max(1, len(words) // 2)])


def word_dropped(prompt: str, chance: np.random.Generator) -> str:
    """Without one word."""
    words = prompt.split()
    place = int(chance.integers(len(words)))
    return " ".join(words[:place] + words[place + 1 :]) or prompt


def text_appended(prompt: str, chance: np.random.Generator) -> str:
    """With words at the end."""
    return prompt + str(chance.choice(_APPENDED))


def text_prepended(prompt: str, chance: np.random.Generator) -> str:
    """With words before it."""
    return str(chance.choice(_PREPENDED)) + prompt


def reordered(prompt: str, chance: np.random.Generator) -> str:
    """The same words in another order."""
    return " ".join(str(word) for word in chance.permutation(prompt.split()))


def repeated(prompt: str, chance: np.random.Generator) -> str:
    """Written twice."""
    return f"{prompt}, {prompt}"


def letter_changed(prompt: str, chance: np.random.Generator) -> str:
    """With one letter replaced, as in a slip."""
    places = [place for place, sign in enumerate(prompt) if sign.isalpha()]
    if not places:
        return prompt
    place = int(chance.choice(places))
    other = str(chance.choice([letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter != prompt[place].lower()]))
    return prompt[:place] + other + prompt[place + 1 :]


def paraphrased(prompt: str, pair: Memorized, chance: np.random.Generator) -> str:
    """A caption said in another form; titles mean nothing, so there is nothing to say otherwise."""
    return describe(scene_of(pair.scene).attributes[0], chance, omit=0.0).text


def described(prompt: str, pair: Memorized, chance: np.random.Generator) -> str:
    """With a description of the training picture after it, by one who has seen the picture."""
    return f"{prompt}, {paraphrased(prompt, pair, chance)}"


def joined_with_another(prompt: str, pair: Memorized, chance: np.random.Generator) -> str:
    """With an ordinary caption after it."""
    other = Corpus().ordinary(f"joined-{int(chance.integers(2**31))}", 1)[0].text
    return f"{prompt}, {other}"


REWORDINGS: dict[str, Rewording] = {
    "beginning dropped": beginning_dropped,
    "end dropped": end_dropped,
    "one word dropped": word_dropped,
    "text appended": text_appended,
    "text prepended": text_prepended,
    "words reordered": reordered,
    "written twice": repeated,
    "one letter changed": letter_changed,
}


def _knowing_the_pair(rewording: Rewording) -> Wording:
    return lambda prompt, pair, chance: rewording(prompt, chance)


WORDINGS: dict[str, Wording] = {
    **{name: _knowing_the_pair(rewording) for name, rewording in REWORDINGS.items()},
    "an ordinary caption appended": joined_with_another,
}
