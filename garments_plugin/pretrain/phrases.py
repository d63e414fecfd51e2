"""Phrases about drawn pictures, and texts of the change from one picture to another."""

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


def wording(values: dict[str, str], rng: random.Random) -> str:
    """A phrase with the values of some attributes and no others."""
    garment = values.get("garment", "")
    ahead = [values[name] for name in ("length", "colour", "pattern") if values.get(name)]
    sleeve = values.get("sleeve", "")
    tail = {"none": "is sleeveless", "": ""}.get(sleeve, f"with {sleeve} sleeves")
    if garment:
        article = rng.choice(("is a", "a", "shows a", ""))
        words = [article, *ahead, garment, tail]
    elif ahead:
        words = [rng.choice(("is", "is more", "in", "")), *ahead, tail and f"and {tail}"]
    else:
        words = [tail]
    return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Step:
    """A training batch: pictures, phrases about them, and changes towards other pictures.

    Attributes:
        reference: (B,) indices of the reference pictures.
        target: (B,) indices of the pictures after the changes.
        phrases: B phrases, each about its target picture.
        fits: (B, B) bool, target pictures that a phrase fits.
        changes: B texts of the change from reference to target.
        results: (B, B) bool, target pictures that a reference and its change lead to.
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
    for number, look in enumerate(drawn.looks):
        by_look.setdefault(look, []).append(number)
    values = [sorted({look[i] for look in by_look}) for i in range(len(ATTRIBUTES))]
    numbers = [{value: k for k, value in enumerate(options)} for options in values]
    table = torch.tensor(
        [[numbers[i][value] for i, value in enumerate(look)] for look in drawn.looks]
    )
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed + epoch))
    rng = random.Random(f"{seed} {epoch}")
    wording_rng = np.random.default_rng([seed, epoch])
    generator = torch.Generator().manual_seed(seed + epoch)
    for first in range(0, len(order) - batch + 1, batch):
        reference = order[first : first + batch]
        looks = [
            _changed(drawn.looks[number], by_look, values, rng) for number in reference.tolist()
        ]
        target = torch.tensor([rng.choice(by_look[look]) for look in looks])
        mask = torch.rand(batch, len(ATTRIBUTES), generator=generator) < 0.6
        blank = table.new_tensor([options.index("") if "" in options else -1 for options in values])
        mask[~(mask & (table[target] != blank)).any(dim=1), :2] = True
        described = [_values(look, row.tolist()) for look, row in zip(looks, mask, strict=True)]
        equal = table[target][:, None, :] == table[target][None, :, :]
        pairs = zip((drawn.looks[number] for number in reference.tolist()), looks, strict=True)
        yield Step(
            reference,
            target,
            [wording(values, rng) for values in described],
            (equal | ~mask[:, None, :]).all(dim=2),
            [change(before, after, wording_rng) for before, after in pairs],
            equal.all(dim=2),
        )


def _changed(
    look: tuple[str, ...],
    by_look: dict[tuple[str, ...], list[int]],
    values: list[list[str]],
    rng: random.Random,
) -> tuple[str, ...]:
    """The look of some picture that differs from a look in one or two attributes."""
    for _ in range(50):
        other = list(look)
        for attribute in rng.sample(range(len(look)), rng.choice((1, 1, 2))):
            other[attribute] = rng.choice(values[attribute])
        if tuple(other) != look and tuple(other) in by_look:
            return tuple(other)
    return rng.choice([other for other in by_look if other != look])


def change(before: tuple[str, ...], after: tuple[str, ...], rng: np.random.Generator) -> str:
    """Two sentences about the change from one look to another, joined as in FashionIQ."""
    reference, target = (
        {name: value for name, value in zip(ATTRIBUTES, look, strict=True) if value}
        for look in (before, after)
    )
    changed = changed_attributes(reference, target) or ("garment",)
    return " and ".join(captions(reference, target, changed, rng))


def _values(look: tuple[str, ...], mask: list[bool]) -> dict[str, str]:
    """The masked attributes of a look with their values."""
    return {name: value for name, value, use in zip(ATTRIBUTES, look, mask, strict=True) if use}
