"""The UNet's cross-attention, read and changed while a job is sampled.

A UNet of diffusers has one cross-attention in each transformer block, named `attn2`, with a processor that can be
exchanged: how much of each text token every position of the picture reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

Processor = Callable[..., Tensor]
"""(attention, positions [B, N, C], encoder_hidden_states=text [B, T, D]) -> [B, N, C], as diffusers calls it."""


def cross_attentions(unet: UNet2DConditionModel) -> list[Attention]:
    """The cross-attention of every transformer block."""
    return [module for name, module in unet.named_modules() if name.endswith("attn2")]


@contextmanager
def processed(unet: UNet2DConditionModel, make: Callable[[Processor], Processor]) -> Iterator[None]:
    """Every cross-attention has the processor made of its own; its own is back afterwards, whatever happens."""
    layers = cross_attentions(unet)
    before = [layer.processor for layer in layers]
    try:
        for layer, own in zip(layers, before, strict=True):
            layer.processor = make(own)
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.processor = own


def logits(attention: Attention, positions: Tensor, text: Tensor) -> Tensor:
    """What the softmax over the text's tokens takes, [B, heads, N, T], of positions [B, N, C] and text [B, T, D]."""
    query, key = _in_heads(attention, attention.to_q(positions)), _in_heads(attention, attention.to_k(text))
    return attention.scale * query @ key.transpose(-1, -2)


def attended(attention: Attention, weights: Tensor, text: Tensor) -> Tensor:
    """The attention's answer [B, N, C] under these weights [B, heads, N, T], which sum to 1 over T.

    As diffusers' transformer blocks have it: no residual, no norms of its own.
    """
    read = weights @ _in_heads(attention, attention.to_v(text))
    answer: Tensor = attention.to_out[1](attention.to_out[0](read.transpose(1, 2).flatten(2)))
    return answer


def _in_heads(attention: Attention, rows: Tensor) -> Tensor:
    return rows.unflatten(2, (attention.heads, -1)).transpose(1, 2)


class Reading:
    """Reads how much of each token is looked at; what the layers answer stays bit for bit what it was."""

    def __init__(self) -> None:
        self._layers: list[Tensor] = []

    def make(self, own: Processor) -> Processor:
        """A processor that answers as `own` does, and is read; for `processed`."""

        def process(attention: Attention, positions: Tensor, encoder_hidden_states: Tensor, **options: Any) -> Tensor:
            weights = logits(attention, positions, encoder_hidden_states).detach().float().softmax(dim=-1)
            self._layers.append(weights.mean(dim=(1, 2)))
            return own(attention, positions, encoder_hidden_states=encoder_hidden_states, **options)

        return process

    def take(self) -> Tensor:
        """Mean over heads, positions and layers since the last call, [B, T]; every row sums to 1.

        Raises:
            RuntimeError: if nothing was evaluated since then.
        """
        if not self._layers:
            raise RuntimeError("no attention was read: sample inside `processed(unet, reading.make)`")
        mean = torch.stack(self._layers).mean(dim=0)
        self.drop()
        return mean

    def drop(self) -> None:
        """Forget what was read since the last call."""
        self._layers.clear()


def entropy(attention: Tensor) -> Tensor:
    """Entropy [B], in nats, of attention [B, T] over the tokens."""
    return torch.special.entr(attention).sum(dim=-1)


def masked(visible: Tensor, begin: Tensor) -> Callable[[Processor], Processor]:
    """For `processed`: only the tokens `visible` [B, T] (bool) are read, the first one's logits times `begin` [B]."""

    def make(own: Processor) -> Processor:
        def process(attention: Attention, positions: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
            scores = logits(attention, positions, encoder_hidden_states)
            first = scores[..., :1] * begin.to(scores)[:, None, None, None]
            scores = torch.cat([first, scores[..., 1:]], dim=-1)
            hidden = scores.masked_fill(~visible[:, None, None, :], -torch.inf)
            return attended(attention, hidden.softmax(dim=-1), encoder_hidden_states)

        return process

    return make
