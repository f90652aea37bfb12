"""A prompt is cut into windows that hold every word, and its rows are put together from theirs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_memstab.core.windows import GLIMPSES, HALVES, Chunk, read

BEGIN, END, LENGTH = 100, 101, 77
EMPTY = Chunk((BEGIN, *[END] * (LENGTH - 1)), (1.0,) * LENGTH, 0)


def chunk_of(count):
    """Words 0, 1, 2, ... with weights 1.0, 1.1, 1.2, ..."""
    rest = LENGTH - 1 - count
    tokens = (BEGIN, *range(count), *[END] * rest)
    return Chunk(tokens, (1.0, *[1 + index / 10 for index in range(count)], *[1.0] * rest), count)


class Encoder:
    """Features that tell all: the row's token, its weight, how many words came before it, and its place."""

    def __init__(self):
        self.calls = []

    def __call__(self, chunks):
        self.calls.append(chunks)
        rows = []
        for chunk in chunks:
            before = [min(place - 1, chunk.count) if place else 0 for place in range(LENGTH)]
            rows.append(list(zip(chunk.tokens, chunk.weights, before, range(LENGTH), strict=True)))
        return torch.tensor(rows, dtype=torch.float32)


@given(count=st.integers(1, 75), reading=st.sampled_from([HALVES, GLIMPSES]))
def test_every_word_is_in_a_window_and_all_windows_are_as_long(count, reading):
    windows = reading.windows(count)
    assert {word for start, width in windows for word in range(start, start + width)} == set(range(count))
    assert len({width for _, width in windows}) == 1
    assert windows[0][1] <= max(1, min(reading.width, (count * reading.share + 1)))
    assert len(set(windows)) == len(windows)


@given(count=st.integers(1, 75))
def test_rows_are_the_words_with_their_weights_and_then_the_windows_ends(count):
    chunk = chunk_of(count)
    halves, glimpses = read(chunk, EMPTY, Encoder(), (HALVES, GLIMPSES))
    for text in (halves, glimpses):
        assert text[:, 0].tolist() == [BEGIN, *range(count), *[END] * (LENGTH - 1 - count)]
        torch.testing.assert_close(text[1 : 1 + count, 1], torch.tensor(chunk.weights[1 : 1 + count]))
    width = HALVES.windows(count)[0][1]
    assert set(halves[1 + count :, 2].tolist()) <= {float(width)}
    assert set(glimpses[1 + count :, 2].tolist()) <= {0.0}
    assert halves[1 + count :, 3].tolist() == list(range(1 + count, LENGTH))


def test_a_word_comes_from_the_window_with_the_most_words_before_it():
    halves = read(chunk_of(12), EMPTY, Encoder(), (HALVES,))[0]
    # windows of six from words 0, 2, 4 and 6
    assert halves[1:13, 2].tolist() == [0, 1, 2, 3, 4, 5, 4, 5, 4, 5, 4, 5]


def test_all_is_encoded_in_one_call():
    encoder = Encoder()
    read(chunk_of(20), EMPTY, encoder, (HALVES, GLIMPSES))
    assert len(encoder.calls) == 1
    assert len(encoder.calls[0]) == 1 + 6 + 18


@pytest.mark.parametrize("reading", [HALVES, GLIMPSES])
def test_a_chunk_without_words_is_the_empty_one(reading):
    encoder = Encoder()
    assert torch.equal(read(EMPTY, EMPTY, encoder, (reading,))[0], encoder([EMPTY])[0])
