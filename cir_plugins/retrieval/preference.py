"""Agreement of a method with people who chose between two sets of retrieved images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cir_plugins.data.readers.hp_fashioniq import Preferences
from cir_plugins.encoding.features import Encoding
from cir_plugins.method import Method
from cir_plugins.retrieval.evaluate import encode_split, score_blocks


@dataclass(frozen=True)
class PreferenceResult:
    """Agreement with people's choices; shares are fractions.

    Attributes:
        preference_ratio: Of the items whose first set scores higher, the share in which the first
            was preferred: what QuRe reports. A random scorer has ``first_preferred``.
        agreement: Of the items whose sets score differently, the share in which the one with the
            higher score was preferred. A random scorer has 0.5.
        first_preferred: Share of all items in which the first set was preferred.
        items: Number of items.
        first_higher: Items whose first set scores higher.
        ties: Items whose sets score the same.
    """

    preference_ratio: float
    agreement: float
    first_preferred: float
    items: int
    first_higher: int
    ties: int


def preference(first: Tensor, second: Tensor, preferred: Tensor) -> PreferenceResult:
    """Agreement of scores with choices.

    Args:
        first: (n,) score of each item's first set.
        second: (n,) score of its second set.
        preferred: (n,) which one was preferred, 1 or 2.

    Example: scores (3, 1, 2, 0) and (1, 2, 0, 0) with the choices (1, 2, 2, 1). The first is higher
    in items 0 and 2, and preferred in item 0 alone: 1 of 2. The higher one is preferred in items 0
    and 1 of 0, 1, 2: 2 of 3. Item 3 is a tie.

    Source: QuRe, repository jackwaky/QuRe, ``HP_FashionIQ/evaluate.py``. Differs: a ratio without
    any item is 0 there too, and the agreement over both directions is ours.
    """
    chosen = preferred == 1
    higher, lower = first > second, first < second
    agrees = (higher & chosen) | (lower & ~chosen)
    return PreferenceResult(
        preference_ratio=_share(higher & chosen, higher),
        agreement=_share(agrees, higher | lower),
        first_preferred=_share(chosen, torch.ones_like(chosen)),
        items=len(chosen),
        first_higher=int(higher.sum()),
        ties=int((first == second).sum()),
    )


def evaluate_preference(method: Method, data: Preferences, encoding: Encoding) -> PreferenceResult:
    """The agreement of a method: a set's score is the mean of its images' scores."""
    index = {name: number for number, name in enumerate(data.split.gallery)}
    sets = [_columns([pair[side] for pair in data.sets], index) for side in (0, 1)]
    scores: tuple[list[Tensor], list[Tensor]] = ([], [])
    for rows, block in score_blocks(method, encode_split(method, data.split, encoding)):
        for side, columns in enumerate(sets):
            of_set = [block[row, one].double().mean() for row, one in enumerate(columns[rows])]
            scores[side].append(torch.stack(of_set).cpu())
    return preference(torch.cat(scores[0]), torch.cat(scores[1]), torch.tensor(data.preferred))


def _columns(sets: Sequence[Sequence[str]], index: dict[str, int]) -> list[list[int]]:
    return [[index[name] for name in one] for one in sets]


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part.sum()) / max(1, int(whole.sum()))
