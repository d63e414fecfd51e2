"""Learnable attribute weights over query tokens, and the attributes that a text mentions.

Imports torch alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Our choice: words that mention an attribute.
WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "colour": frozenset(
            "black blue navy teal turquoise brown tan beige camel green olive lime grey gray "
            "silver orange peach coral pink magenta fuchsia purple violet lavender lilac red "
            "maroon burgundy crimson white cream ivory yellow gold golden mustard aqua cyan "
            "color colors colored colour colours coloured dark darker light lighter bright "
            "brighter pale pastel multicolored colorful colourful monochrome".split()
        ),
        "shape": frozenset(
            "sleeve sleeves sleeved sleeveless long longer short shorter length knee ankle floor "
            "maxi midi mini neck neckline v-neck collar collared collarless strap straps "
            "strapless shoulder shoulders hood hooded hoodie zip zipper button buttons buttoned "
            "fitted fit fitting loose looser baggy tight tighter wide wider narrow slim flowing "
            "flowy cropped crop cut hem waist skirt dress shirt t-shirt tee blouse top tank polo "
            "sweater sweatshirt cardigan jacket blazer coat pants trousers jeans shorts leggings "
            "shoe shoes sneaker sneakers sandal sandals flip flops heel heels boot boots sock "
            "socks hat cap bag handbag backpack wallet belt tie kurta tunic suit shape shaped "
            "style round square bigger smaller larger thinner thicker taller".split()
        ),
        "pattern": frozenset(
            "pattern patterned plain solid stripe stripes striped check checks checked checkered "
            "plaid dot dots dotted polka floral flower flowers print printed graphic logo letter "
            "letters lettering picture animal camo camouflage paisley design".split()
        ),
        "sleeve": frozenset("sleeve sleeves sleeved sleeveless arm arms".split()),
        "length": frozenset(
            "long longer short shorter length knee ankle floor maxi midi mini".split()
        ),
    }
)
_TOKEN = re.compile(r"[a-z]+(?:-[a-z]+)*")


def mentions(texts: Sequence[str], attributes: Sequence[str]) -> Tensor:
    """Mask (B, A) bool of the attributes that each text mentions.

    Args:
        texts: B texts.
        attributes: A names; one without a word list is mentioned by its name alone.
    """
    mask = torch.zeros(len(texts), len(attributes), dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens = _TOKEN.findall(text.lower())
        words = {*tokens, *(piece for token in tokens for piece in token.split("-"))}
        for column, attribute in enumerate(attributes):
            vocabulary = WORDS.get(attribute, frozenset({attribute}))
            mask[row, column] = not words.isdisjoint(vocabulary)
    return mask


class SubQueries(NamedTuple):
    """Attribute sub-queries of a batch with their gates and weights.

    Attributes:
        sub_queries: (B, A, D) one per attribute, not normalised.
        gates: (B, A) in (0, 1), weight of each sub-query under the text.
        weights: (B, A, T) over the query tokens, each row sums to 1.
    """

    sub_queries: Tensor
    gates: Tensor
    weights: Tensor


class AttributeWeights(nn.Module):
    """Text-conditioned weights over query tokens, one set per attribute.

    w_a = softmax_t((W_k H_t) · (W_q (x + e_a)) / sqrt(H)), h_a = sum_t w_(a,t) P(H_t),
    gate_a = sigmoid(u_a · x + b_a).

    Args:
        attributes: (A, H) start value of the learned vectors e_a, such as word embeddings.
        gate: Start value of every gate, in (0, 1): near 0, training starts at the plain query.

    Source: Park, Park, Lee, DQE-CIR, arXiv 2603.04037 (learnable attribute weights conditioned on
    the text, attribute-aware sub-queries). Our choice: the form of the weights and of the gates.
    """

    def __init__(self, attributes: Tensor, *, gate: float = 0.02) -> None:
        super().__init__()
        if not 0 < gate < 1:
            raise ValueError(f"gate must lie in (0, 1), not {gate}")
        count, width = attributes.shape
        self.embedding = nn.Parameter(attributes.clone())
        self.key = nn.Linear(width, width, bias=False)
        self.ask = nn.Linear(width, width, bias=False)  # W_q; checkpoints have this name
        self.gate = nn.Linear(width, count)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, math.log(gate / (1 - gate)))

    def forward(self, hidden: Tensor, text: Tensor, projected: Tensor) -> SubQueries:
        """Sub-queries, gates and weights.

        Args:
            hidden: (B, T, H) hidden states at the query positions.
            text: (B, H) hidden state of the text.
            projected: (B, T, D) the hidden states, projected into the embedding space.
        """
        queries = self.ask(text[:, None, :] + self.embedding)  # (B, A, H)
        logits = queries @ self.key(hidden).transpose(1, 2) / math.sqrt(hidden.shape[-1])
        weights = logits.softmax(dim=-1)  # (B, A, T)
        return SubQueries(weights @ projected, self.gate(text).sigmoid(), weights)
