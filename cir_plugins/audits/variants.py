"""The queries of a split with their captions changed: other order, or other words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cir_plugins.audits.paraphrase import RULES, RULES_AFTER_A_PREFIX, paraphrased
from cir_plugins.data.split import Query, Split

ORDER = "order"
ALL_RULES = "all rules"
_ORDERLESS = ("single",)  # each caption is a query of its own
Captions = tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """Some queries of a split with other captions.

    Attributes:
        name: What was done to them.
        rows: Positions of the queries in the split.
        queries: The same queries with other captions and text.
    """

    name: str
    rows: tuple[int, ...]
    queries: tuple[Query, ...]


def variants_of(split: Split) -> list[Variant]:
    """The split's queries with captions in reverse, by all rules at once, and by each alone.

    A variant has the queries whose text it changes; one that changes none is left out.
    """
    # After a prefix such as "a photo of $ that" a caption has a subject already.
    rules = RULES if split.captions.prefix == "{}" else RULES_AFTER_A_PREFIX
    edits: dict[str, Callable[[Captions], Captions]] = {
        ALL_RULES: lambda captions: tuple(paraphrased(each, rules)[0] for each in captions)
    }
    if split.captions.mode not in _ORDERLESS:
        edits = {ORDER: lambda captions: captions[::-1], **edits}
    for rule in rules:
        edits[rule.name] = lambda captions, rule=rule: tuple(map(rule, captions))  # type: ignore[misc]
    variants = [_variant(name, split, edit) for name, edit in edits.items()]
    return [variant for variant in variants if variant.rows]


def _variant(name: str, split: Split, edit: Callable[[Captions], Captions]) -> Variant:
    pairs = []
    for row, query in enumerate(split.queries):
        changed = _rewritten(query, split, edit(query.captions), name)
        if changed is not None:
            pairs.append((row, changed))
    return Variant(name, tuple(row for row, _ in pairs), tuple(query for _, query in pairs))


def _rewritten(query: Query, split: Split, captions: Captions, name: str) -> Query | None:
    """The query with other captions; None where its text stays the same.

    Of a triplet with several texts, the text keeps its place among them.
    """
    before = split.captions.texts(query.captions, query.category)
    if captions == query.captions or query.text not in before:
        return None
    after = split.captions.texts(captions, query.category)
    text = after[min(before.index(query.text), len(after) - 1)]
    if text == query.text:
        return None
    return replace(query, id=f"{query.id} ({name})", captions=captions, text=text)
