"""Products of a table, and a division of its rows that leaves no product in two splits."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cir_plugins.data.readers.triplet_rows import Row

# A component that would make the validation split larger than this stays whole in training.
_MOST_OF_SHARE = 1.5


@dataclass(frozen=True)
class Division:
    """The rows of the two splits, by index.

    Attributes:
        train: Rows whose products are all in training.
        val: Rows whose products are all held back.
        across: Rows between a product of either, which are in neither split.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    across: tuple[int, ...] = ()


class _Sets:
    """Disjoint sets of anything; each has its first member as its name."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def find(self, member: Hashable) -> Hashable:
        above = self._above
        while above.setdefault(member, member) != member:
            above[member] = above[above[member]]
            member = above[member]
        return member

    def join(self, first: Hashable, second: Hashable) -> None:
        self._above[self.find(second)] = self.find(first)


def products_of(rows: Sequence[Row]) -> dict[str, str]:
    """Picture -> the name of its product, the first of its pictures in alphabetical order.

    Pictures with one group are of one product, groups with one picture are one product, and a
    picture without a group is a product of its own.
    """
    sets = _Sets()
    pictures: dict[str, None] = {}
    for row in rows:
        for picture, group in row.pictures():
            pictures[picture] = None
            sets.find(("picture", picture))
            if group:
                sets.join(("group", group), ("picture", picture))
    names: dict[Hashable, str] = {}
    for picture in sorted(pictures):
        names.setdefault(sets.find(("picture", picture)), picture)
    return {picture: names[sets.find(("picture", picture))] for picture in pictures}


def groups_of(rows: Iterable[Row]) -> dict[str, tuple[str, ...]]:
    """Group -> its pictures, in the order of the rows."""
    groups: dict[str, dict[str, None]] = {}
    for row in rows:
        for picture, group in row.pictures():
            if group:
                groups.setdefault(group, {})[picture] = None
    return {group: tuple(pictures) for group, pictures in groups.items()}


def divide(rows: Sequence[Row], share: float, seed: int) -> Division:
    """A division into training and validation that depends on the rows, the share and the seed.

    Products that a row connects form a component. Whole components are held back, in the order of
    a hash of their names, until their rows are the share; one that is too large is passed over. If
    that gives less than half of the share, as all products hang together, one component is cut:
    products are held back, each time the one with most of its rows among those before, and the
    rows between a product of either side are left out.

    Args:
        rows: The rows.
        share: Share of the rows that is held back.
        seed: Seed of the hash.
    """
    wanted = round(share * len(rows)) or (1 if share and len(rows) > 1 else 0)
    products = products_of(rows)
    ends = [tuple({products[picture] for picture, _ in row.pictures()}) for row in rows]
    held = _whole_components(ends, wanted, seed)
    if 2 * sum(product in held for product, *_ in ends) < wanted:
        held |= _cut(ends, held, wanted, seed)
    inside = [sum(product in held for product in products) for products in ends]
    return Division(
        train=tuple(i for i, count in enumerate(inside) if count == 0),
        val=tuple(i for i, count in enumerate(inside) if count == len(ends[i])),
        across=tuple(i for i, count in enumerate(inside) if 0 < count < len(ends[i])),
    )


def _whole_components(ends: Sequence[tuple[str, ...]], wanted: int, seed: int) -> set[str]:
    """Products of the components that are held back; one component or more is not."""
    sets = _Sets()
    for first, *others in ends:
        sets.find(first)
        for other in others:
            sets.join(first, other)
    members: dict[Hashable, set[str]] = {}
    sizes: dict[Hashable, int] = {}
    for products in ends:
        root = sets.find(products[0])
        members.setdefault(root, set()).update(products)
        sizes[root] = sizes.get(root, 0) + 1
    held: set[str] = set()
    count = 0
    for root in sorted(members, key=lambda root: _order(min(members[root]), seed)):
        room = max(wanted, int(_MOST_OF_SHARE * wanted))
        if count < wanted and count + sizes[root] <= room and count + sizes[root] < len(ends):
            held |= members[root]
            count += sizes[root]
    return held


def _cut(ends: Sequence[tuple[str, ...]], held: set[str], wanted: int, seed: int) -> set[str]:
    """Products of the largest component that are held back, so that the share is reached.

    A product is never taken if no row would be left for training.
    """
    near: dict[str, dict[str, int]] = {}
    for products in ends:
        for product in products:
            of = near.setdefault(product, {})
            for other in products:
                of[other] = of.get(other, 0) + 1
    inside = sum(product in held for product, *_ in ends)
    region = _Region(near)
    for start in sorted(near.keys() - held, key=lambda product: _order(product, seed)):
        inside += region.grow(start, wanted - inside, seed)
        if inside >= wanted:
            break
    return region.products if _leaves_training(ends, held | region.products) else set()


class _Region:
    """Products that grow from one to those that rows connect with it, the closest first."""

    def __init__(self, near: Mapping[str, Mapping[str, int]]) -> None:
        """An empty region; ``near`` has the rows of each product with each other, and its own."""
        self.products: set[str] = set()
        self._near = near
        self._among: dict[str, int] = {}  # rows of a product with those in the region

    def grow(self, start: str, wanted: int, seed: int) -> int:
        """Number of rows that the region holds more, after growing from a product."""
        waiting = [(0.0, _order(start, seed), start)]
        more = 0
        while waiting and more < wanted:
            _, _, product = heapq.heappop(waiting)
            if product in self.products:
                continue
            self.products.add(product)
            rows = self._near[product]
            more += rows[product] - sum(n for p, n in rows.items() if p not in self.products)
            for other, count in rows.items():
                if other not in self.products:
                    self._among[other] = self._among.get(other, 0) + count
                    share = self._among[other] / self._near[other][other]
                    heapq.heappush(waiting, (-share, _order(other, seed), other))
        return more


def _leaves_training(ends: Sequence[tuple[str, ...]], held: set[str]) -> bool:
    return any(not any(product in held for product in products) for products in ends)


def _order(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()
