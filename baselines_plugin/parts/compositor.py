"""CoSMo's compositor: a feature map changed by a text, in content and in style.

All modules take tensors: maps of any height, width and channel count, and text vectors.
An independent implementation from the paper; MGUR composes in the same way.

Source: Lee, Kim, Han, CoSMo: Content-Style Modulation for Image Retrieval with Text Feedback,
CVPR 2021, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INSTANCE_EPS = 1e-5


class Attended(NamedTuple):
    """Attention over the positions of a map, with intermediate results; P = H·W positions, N heads.

    Attributes:
        fused: (B, C, H, W) map joined with the text.
        values: (B, C, H, W) values of the attention.
        self_attention: (B, N, P, P) weights among positions, rows sum to 1.
        text_attention: (B, N, P) weights of positions under the text, rows sum to 1.
        weights: (B, N, P, P) sum of both, rows sum to 2.
        out: (B, C, H, W) projected weighted sum of the values.
    """

    fused: Tensor
    values: Tensor
    self_attention: Tensor
    text_attention: Tensor
    weights: Tensor
    out: Tensor


class Styled(NamedTuple):
    """A restyled map and its gates and shifts.

    Attributes:
        gates: (B, 2C) in (0, 1): shares of the reference's deviation, then of its mean.
        shifts: (B, 2C) additions to the deviation, then to the mean.
        out: (B, C, H, W).
    """

    gates: Tensor
    shifts: Tensor
    out: Tensor


class Composition(NamedTuple):
    """A composed map and its intermediate results.

    Attributes:
        plain: (B, C, H, W) reference without its style.
        first: Attention over ``plain``.
        middle: (B, C, H, W) ``plain`` after the first attention.
        second: Attention over ``middle``.
        content: (B, C, H, W) after both attentions.
        style: Restyling of ``content``.
    """

    plain: Tensor
    first: Attended
    middle: Tensor
    second: Attended
    content: Tensor
    style: Styled

    @property
    def out(self) -> Tensor:
        """The composed map (B, C, H, W)."""
        return self.style.out


def instance_normalise(values: Tensor, eps: float = INSTANCE_EPS) -> Tensor:
    """The maps (B, C, H, W), or vectors (B, D), each with mean 0 and biased variance 1.

    Maps are standardised per channel over their positions, vectors over their entries.
    """
    axes = (-2, -1) if values.dim() == 4 else (-1,)
    centred = values - values.mean(dim=axes, keepdim=True)
    variance = centred.square().mean(dim=axes, keepdim=True)
    return centred * (variance + eps).rsqrt()


class EqualisedLinear(nn.Module):
    """A linear layer whose weights are drawn from N(0, 1) and scaled by sqrt(2 / inputs) in use.

    Args:
        inputs: Input size.
        outputs: Output size.

    Source: Karras et al., Progressive Growing of GANs, ICLR 2018, arXiv 1710.10196, section 4.1.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = (2.0 / inputs) ** 0.5

    def forward(self, values: Tensor) -> Tensor:
        """Outputs (B, outputs) of inputs (B, inputs)."""
        return F.linear(values, self.weight * self.scale, self.bias)


def _one_by_one(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    """A 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, bias=bias)


class TextGuidedAttention(nn.Module):
    """Self-attention over the positions of a map, plus one text-driven attention for all positions.

    The two are added after their softmaxes, so that rows sum to 2, as published.

    Args:
        channels: C of the map, a multiple of ``heads``.
        text: Size of the text vector.
        heads: Number N of attention heads.
    """

    def __init__(self, channels: int, text: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fuse = _one_by_one(channels + text, channels)
        self.value = _one_by_one(channels, channels)
        self.key = _one_by_one(channels, channels)
        self.query = _one_by_one(channels, channels)
        self.text = nn.Linear(text, channels)
        self.out = _one_by_one(channels, channels, bias=True)

    def forward(self, maps: Tensor, text: Tensor) -> Attended:
        """The attention over maps (B, C, H, W) under text vectors (B, S)."""
        height, width = maps.shape[-2:]
        tiled = text[:, :, None, None].expand(-1, -1, height, width)
        fused = self.fuse(torch.cat([maps, tiled], dim=1))
        values = self.value(fused)
        # Queries and keys come from the input map, not from the fused one.
        queries, keys = self._split(self.query(maps)), self._split(self.key(maps))  # (B, N, c, P)
        scale = queries.shape[2] ** -0.5
        among = (queries.transpose(2, 3) @ keys * scale).softmax(dim=-1)
        text_query = self.text(text).view(len(text), self.heads, 1, -1)  # (B, N, 1, c)
        by_text = ((text_query @ self._split(maps)).squeeze(2) * scale).softmax(dim=-1)
        weights = among + by_text[:, :, None]
        gathered = self._split(values) @ weights.transpose(2, 3)  # (B, N, c, P)
        out = self.out(gathered.reshape(maps.shape))
        return Attended(fused, values, among, by_text, weights, out)

    def _split(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) as heads (B, N, C / N, P)."""
        batch, channels = maps.shape[:2]
        return maps.reshape(batch, self.heads, channels // self.heads, -1)


class StyleModulator(nn.Module):
    """A map restyled with the reference's per-channel statistics, gated and shifted by the text.

    Args:
        channels: C of the map.
        text: Size of the text vector.
    """

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        self.gate = EqualisedLinear(text, 2 * channels)
        self.shift = EqualisedLinear(text, 2 * channels)
        with torch.no_grad():
            self.shift.bias[:channels] = 1

    def forward(self, maps: Tensor, reference: Tensor, text: Tensor) -> Styled:
        """The restyled maps (B, C, H, W).

        Args:
            maps: (B, C, H, W) content.
            reference: (B, C, H, W) map with the style statistics; gets no gradient from them.
            text: (B, S) text vectors.
        """
        style = reference.detach()
        deviation, mean = torch.std_mean(style, dim=(-2, -1), correction=0)  # (B, C) each
        gates, shifts = self.gate(text).sigmoid(), self.shift(text)
        (keep, stay), (gamma, beta) = gates.chunk(2, dim=1), shifts.chunk(2, dim=1)
        factor = (keep * deviation + gamma)[:, :, None, None]
        offset = (stay * mean + beta)[:, :, None, None]
        return Styled(gates, shifts, factor * maps + offset)


class Compositor(nn.Module):
    """Content modulation in two attentions, then style modulation.

    Args:
        channels: C of the map, a multiple of ``heads``.
        text: Size of the text vector.
        heads: Attention heads, at least 1.
    """

    def __init__(self, channels: int, text: int, *, heads: int = 8) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"heads must divide the map's {channels} channels, not be {heads}")
        self.first = TextGuidedAttention(channels, text, heads)
        self.second = TextGuidedAttention(channels, text, heads)
        self.weights = nn.Parameter(torch.ones(2))
        self.style = StyleModulator(channels, text)

    def forward(self, maps: Tensor, text: Tensor) -> Composition:
        """The composition of reference maps (B, C, H, W) and text vectors (B, S)."""
        plain = instance_normalise(maps)
        first = self.first(plain, text)
        middle = plain + self.weights[0] * first.out
        second = self.second(middle, text)
        content = middle + self.weights[1] * second.out
        return Composition(plain, first, middle, second, content, self.style(content, maps, text))
