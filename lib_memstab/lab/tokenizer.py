"""A CLIP tokenizer of our own: byte-level BPE trained on the lab's captions, in the two files CLIP's tokenizer reads.

Layout of the vocabulary as in Radford et al. 2021: 256 byte symbols, the same with `</w>`, one entry per merge, then
`<|startoftext|>` and `<|endoftext|>`, which also pads. Transformers 4.30 (the WebUI's) and 5.x give equal ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
POSITIONS = 77

_PIECES = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def byte_symbols() -> list[str]:
    """The printable character for each byte, in CLIP's order: printable Latin-1 first, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(0x100 + place) for place in range(256 - len(printable))]


def train_tokenizer(captions: Iterable[str], folder: Path, vocab_size: int) -> CLIPTokenizer:
    """Train on `captions` and write the tokenizer to `folder`; returns it loaded.

    Raises:
        ValueError: if `vocab_size` has no room for the 514 fixed entries, or the captions do not have enough merges.
    """
    symbols = byte_symbols()
    vocabulary = dict.fromkeys([*symbols, *(symbol + WORD_END for symbol in symbols)])
    fixed = len(vocabulary) + 2
    if vocab_size < fixed:
        raise ValueError(f"vocab_size is {vocab_size}, but the byte symbols and the two marks alone are {fixed}")
    merges: list[tuple[str, str]] = []
    for left, right in _learn_merges(captions, vocab_size):
        if len(vocabulary) == vocab_size - 2:
            break
        merges.append((left, right))
        vocabulary[left + right] = None
    if len(vocabulary) < vocab_size - 2:
        raise ValueError(
            f"these captions give {len(vocabulary) + 2} entries, not {vocab_size}: add captions or lower vocab_size"
        )
    write_tokenizer(folder, [*vocabulary, BEGIN, END], merges)
    return load_tokenizer(folder)


def _learn_merges(captions: Iterable[str], vocab_size: int) -> list[tuple[str, str]]:
    """Merges in the order learned: as many as a vocabulary of `vocab_size` needs, if the captions have them."""
    tokenizer = Tokenizer(BPE(end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=1,
        initial_alphabet=byte_symbols(),
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return _merges(tokenizer)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The merges of a BPE tokenizer, first learned first."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(left, right) for left, right in pairs]


def write_tokenizer(folder: Path, vocabulary: Sequence[str], merges: Sequence[tuple[str, str]]) -> None:
    """Write the files of a CLIP tokenizer: `vocabulary` in the order of its ids, `merges` first learned first."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: place for place, token in enumerate(vocabulary)}
    marks = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": POSITIONS, "do_lower_case": True, **marks}
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks, indent=2) + "\n", encoding="utf-8")


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write a loaded tokenizer's files; transformers' own `save_pretrained` leaves out those that 4.30 needs."""
    ids = tokenizer.get_vocab()
    write_tokenizer(folder, sorted(ids, key=ids.__getitem__), _merges(tokenizer.backend_tokenizer))


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in `folder`, from its files alone (no network).

    Raises:
        FileNotFoundError: if vocab.json or merges.txt is not there.
    """
    missing = [name for name in ("vocab.json", "merges.txt") if not (Path(folder) / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no {' and '.join(missing)} in {folder}: copy the checkpoint's whole folder, not only its weights"
        )
    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
