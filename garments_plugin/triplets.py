"""Triplets of drawn garments: reference, target, and captions of the change."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from garments_plugin.captions import captions
from garments_plugin.kinds import KINDS

Attributes = Mapping[str, str]
Signature = tuple[tuple[str, str], ...]

_CHANGES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("colour",), 0.26),
    (("garment",), 0.2),
    (("pattern",), 0.12),
    (("sleeve",), 0.16),
    (("length",), 0.16),
    (("colour", "garment"), 0.12),
    (("colour", "pattern"), 0.05),
    (("colour", "sleeve"), 0.02),
    (("colour", "length"), 0.02),
    (("garment", "pattern"), 0.05),
    (("garment", "sleeve"), 0.05),
    (("garment", "length"), 0.05),
)
_SHARES = np.array([share for _, share in _CHANGES])
_ALWAYS = ("colour", "garment", "pattern")


@dataclass(frozen=True)
class Triplet:
    """A query: reference and target image, two captions, and the attributes they change."""

    reference: str
    target: str
    captions: tuple[str, str]
    changed: tuple[str, ...]


def changed_attributes(reference: Attributes, target: Attributes) -> tuple[str, ...]:
    """Names of the attributes that a caption must state to lead from reference to target.

    Garment, colour and pattern count where they differ. Sleeve and length count where the
    target has them, the reference has another value or none, and the target's kind leaves
    them open: a tank top has no sleeves anyway.
    """
    changed = [name for name in _ALWAYS if reference[name] != target[name]]
    kind = KINDS[target["garment"]]
    if len(kind.sleeves) > 1 and reference.get("sleeve") != target["sleeve"]:
        changed.append("sleeve")
    if len(kind.lengths) > 1 and reference.get("length") != target["length"]:
        changed.append("length")
    return tuple(changed)


def signature(attributes: Attributes) -> Signature:
    """The attributes as a hashable key."""
    return tuple(sorted(attributes.items()))


class _Index:
    """Images of one gallery by attributes, and references by target."""

    def __init__(self, ids: Sequence[str], attributes: Mapping[str, Attributes]) -> None:
        self.attributes = attributes
        self.alike: dict[Signature, list[str]] = defaultdict(list)
        for name in ids:
            self.alike[signature(attributes[name])].append(name)
        self.by_change: dict[Signature, dict[tuple[str, ...], list[str]]] = {}

    def references(self, target: str) -> Mapping[tuple[str, ...], Sequence[str]]:
        """The possible references of a target by changed attributes."""
        attributes = self.attributes[target]
        key = signature(attributes)
        if key not in self.by_change:
            references: dict[tuple[str, ...], list[str]] = defaultdict(list)
            for names in self.alike.values():
                references[changed_attributes(self.attributes[names[0]], attributes)] += names
            references.pop((), None)
            self.by_change[key] = references
        return self.by_change[key]


def _order(rng: np.random.Generator) -> list[tuple[str, ...]]:
    """All kinds of change in random order, likely ones first on average."""
    waits = rng.exponential(size=len(_CHANGES)) / _SHARES
    return [_CHANGES[number][0] for number in np.argsort(waits).tolist()]


def _pair(
    index: _Index, target: str, rng: np.random.Generator
) -> tuple[str, tuple[str, ...]] | None:
    references = index.references(target)
    if not references:
        return None
    order = [change for change in _order(rng) if change in references]
    # Tiny galleries may hold no close relative: then the caption describes the whole target.
    change = order[0] if order else min(references, key=lambda names: (len(names), names))
    names = references[change]
    return names[int(rng.integers(len(names)))], change


def make_triplets(
    ids: Sequence[str],
    attributes: Mapping[str, Attributes],
    rng: np.random.Generator,
    *,
    each: int,
) -> list[Triplet]:
    """``each`` triplets per image of a gallery, with the image as target.

    An image without differences to all others gets none.

    Args:
        ids: The gallery: one category of one split.
        attributes: Attributes of (at least) these images.
        rng: Source of references and wording.
        each: Triplets per target, 1 or more.
    """
    index = _Index(ids, attributes)
    triplets = []
    for target in ids:
        seen: set[tuple[str, tuple[str, ...]]] = set()
        for _ in range(each):
            pair = _pair(index, target, rng)
            if pair is None or pair in seen:
                continue
            seen.add(pair)
            reference, changed = pair
            texts = captions(attributes[reference], attributes[target], changed, rng)
            triplets.append(Triplet(reference, target, texts, changed))
    order = rng.permutation(len(triplets))
    return [triplets[int(number)] for number in order]


def mean_positives(
    triplets: Sequence[Triplet], ids: Sequence[str], attributes: Mapping[str, Attributes]
) -> float:
    """Mean number of images per query that equal the target in all attributes."""
    if not triplets:
        return 0.0
    counts = Counter(signature(attributes[name]) for name in ids)
    return sum(counts[signature(attributes[t.target])] for t in triplets) / len(triplets)
