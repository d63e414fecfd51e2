"""Phrases about drawn pictures, and changes that lead from one to another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from garments_plugin import changed_attributes
from garments_plugin.captions import captions
from garments_plugin.pretrain.pictures import ATTRIBUTES, Drawn


def wording(values: dict[str, str], chance: random.Random) -> str:
    """A phrase that names the given attributes and no others."""
    garment = values.get("garment", "")
    ahead = [values[name] for name in ("length", "colour", "pattern") if values.get(name)]
    sleeve = values.get("sleeve", "")
    tail = {"none": "is sleeveless", "": ""}.get(sleeve, f"with {sleeve} sleeves")
    if garment:
        article = chance.choice(("is a", "a", "shows a", ""))
        parts = [article, *ahead, garment, tail]
    elif ahead:
        parts = [chance.choice(("is", "is more", "in", "")), *ahead, tail and f"and {tail}"]
    else:
        parts = [tail]
    return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Step:
    """A batch: pictures, phrases about them, and changes that lead to other pictures.

    Attributes:
        reference: (B,) rows of the reference pictures.
        target: (B,) rows of pictures that result from the changes.
        phrases: B phrases, each about the target picture of its row.
        fits: (B, B) bool, which target pictures a phrase fits.
        changes: B texts that say what the target has in place of the reference.
        results: (B, B) bool, which target pictures result from a reference and its change.
    """

    reference: Tensor
    target: Tensor
    phrases: list[str]
    fits: Tensor
    changes: list[str]
    results: Tensor


def steps(drawn: Drawn, batch: int, epoch: int, seed: int) -> Iterator[Step]:
    """The batches of an epoch, the same for the same seed and epoch."""
    by_look: dict[tuple[str, ...], list[int]] = {}
    for row, look in enumerate(drawn.shown):
        by_look.setdefault(look, []).append(row)
    values = [sorted({look[i] for look in by_look}) for i in range(len(ATTRIBUTES))]
    numbers = [{value: k for k, value in enumerate(known)} for known in values]
    table = torch.tensor(
        [[numbers[i][value] for i, value in enumerate(look)] for look in drawn.shown]
    )
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed + epoch))
    chance = random.Random(f"{seed} {epoch}")
    words = np.random.default_rng([seed, epoch])
    generator = torch.Generator().manual_seed(seed + epoch)
    for first in range(0, len(order) - batch + 1, batch):
        reference = order[first : first + batch]
        looks = [_changed(drawn.shown[row], by_look, values, chance) for row in reference.tolist()]
        target = torch.tensor([chance.choice(by_look[look]) for look in looks])
        told = torch.rand(batch, len(ATTRIBUTES), generator=generator) < 0.6
        blank = table.new_tensor([known.index("") if "" in known else -1 for known in values])
        told[~(told & (table[target] != blank)).any(dim=1), :2] = True
        names = [_named(look, row.tolist()) for look, row in zip(looks, told, strict=True)]
        equal = table[target][:, None, :] == table[target][None, :, :]
        pairs = zip((drawn.shown[row] for row in reference.tolist()), looks, strict=True)
        yield Step(
            reference,
            target,
            [wording(values, chance) for values in names],
            (equal | ~told[:, None, :]).all(dim=2),
            [change(before, after, words) for before, after in pairs],
            equal.all(dim=2),
        )


def _changed(
    look: tuple[str, ...],
    known: dict[tuple[str, ...], list[int]],
    values: list[list[str]],
    chance: random.Random,
) -> tuple[str, ...]:
    """A look that some picture has and that differs from the given one in one or two places."""
    for _ in range(50):
        other = list(look)
        for place in chance.sample(range(len(look)), chance.choice((1, 1, 2))):
            other[place] = chance.choice(values[place])
        if tuple(other) != look and tuple(other) in known:
            return tuple(other)
    return chance.choice([other for other in known if other != look])


def change(before: tuple[str, ...], after: tuple[str, ...], rng: np.random.Generator) -> str:
    """Two sentences that lead from one look to the other, joined as FashionIQ's are."""
    reference, target = (
        {name: value for name, value in zip(ATTRIBUTES, look, strict=True) if value}
        for look in (before, after)
    )
    named = changed_attributes(reference, target) or ("garment",)
    return " and ".join(captions(reference, target, named, rng))


def _named(look: tuple[str, ...], told: list[bool]) -> dict[str, str]:
    return {name: value for name, value, tell in zip(ATTRIBUTES, look, told, strict=True) if tell}
