"""What a number depends on beside the method: the record of an evaluation's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, TypeAlias

from cir_plugins.config.plan import Plan
from cir_plugins.data.captions import CAPTION_SWITCHES, Captions
from cir_plugins.data.fingerprint import DataFingerprint
from cir_plugins.data.split import Split
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.plugins.declarations import PROTOCOL_FACTS, PROTOCOL_VERSION
from cir_plugins.runs.build import read_splits

TIES = "of equal scores the lower gallery index first"
COMPARED: Mapping[str, str] = MappingProxyType(
    {
        "reader": "readers differ",
        "version": "versions of the reader's protocols differ",
        "gallery": "galleries differ",
        "reference": "references differ",
        "text": "texts differ",
        "shared_concept": "shared concepts differ",
        "ties": "ties are broken differently",
        "models": "models differ",
        "checkpoint": "choices of the checkpoint differ",
    }
)
"""Members of a record that results in one table should share, and what is wrong otherwise."""

_Triplet: TypeAlias = "tuple[str, tuple[str, ...], str | None]"
_OFF = (False, "keep", 0, "{}")  # of a caption switch


@dataclass(frozen=True)
class Origin:
    """Where the weights of an evaluation come from.

    Attributes:
        plan: What they were trained by.
        data: Fingerprint of the data that they were trained and chosen on; None if unknown.
        converted: Whether they are official weights.
    """

    plan: Plan
    data: DataFingerprint | None = None
    converted: bool = False

    @property
    def models(self) -> str:
        """Whether there is one model for all categories, or one of some categories."""
        categories = self.plan.data.options.get("categories") if self.plan.train.epochs else ()
        return f"a model of {', '.join(categories)} alone" if categories else "one model for all"

    def checkpoint(self, dataset: str, splits: Sequence[Split]) -> str:
        """Whether the checkpoint was chosen on triplets that the splits have, in words."""
        if self.converted:
            return "official weights: unknown"
        if not self.plan.train.epochs:
            return "none was chosen"
        chosen_on = () if self.data is None else self.data.of_role("val").splits
        if self.plan.train.select == "last" or (self.data is not None and not chosen_on):
            return "the last one, not chosen"
        if self.data is None:
            return "unknown"
        if dataset != self.plan.data.name:
            return "chosen on other data"
        own = self._triplets
        if own is None:
            return "unknown: the run's own data cannot be read"
        triplets = {triplet for split in splits for triplet in _triplets(split)}
        shared = len(triplets & own)
        if not shared:
            return "chosen on other triplets"
        part = "" if shared == len(triplets) else f" {shared:,} of {len(triplets):,} triplets of"
        return f"chosen on{part} this very split"

    @cached_property
    def _triplets(self) -> frozenset[_Triplet] | None:
        """The triplets that the checkpoint was chosen on; None where they cannot be read."""
        try:
            splits = read_splits(self.plan, ("val",))
        except CIRError:
            return None
        return frozenset(triplet for split in splits for triplet in _triplets(split))


def _triplets(split: Split) -> Iterable[_Triplet]:
    return ((query.reference, query.captions, query.target) for query in split.queries)


@dataclass(frozen=True)
class ProtocolRecord:
    """What a result depends on beside method and seed, in words that a table can show.

    Attributes:
        reader: Name of the reader.
        version: Version of its protocols, and of this package.
        protocol: Name of the preset, ``custom`` for options that have none, marked where images
            are missing.
        gallery: What is ranked.
        gallery_images: Split -> number of ranked images.
        reference: ``kept`` or ``removed``.
        text: How captions are joined and cleaned, and the method's edit of them.
        shared_concept: Whether texts hold CIRCO's shared concept; "" where data has none.
        ties: What is first of equal scores.
        models: One model for all categories, or one of some.
        checkpoint: Whether the checkpoint was chosen on the very split.
        data: Fingerprint of the evaluated splits.
        weights: Fingerprint of the weights.
    """

    reader: str
    version: str
    protocol: str
    gallery: str
    gallery_images: Mapping[str, int]
    reference: str
    text: str
    shared_concept: str
    ties: str
    models: str
    checkpoint: str
    data: str
    weights: str

    @property
    def document(self) -> dict[str, Any]:
        """The record as plain values."""
        return {**asdict(self), "gallery_images": dict(self.gallery_images)}


def protocol_record(
    plan: Plan,
    protocol: str,
    splits: Sequence[Split],
    data: DataFingerprint,
    method: Method,
    weights: str,
    origin: Origin,
) -> ProtocolRecord:
    """The record of an evaluation.

    Args:
        plan: Its plan, with the options of the reader.
        protocol: Name of the protocol, as the record is to have it.
        splits: The evaluated splits, at least one.
        data: Their fingerprint.
        method: What was evaluated.
        weights: Fingerprint of its weights.
        origin: Where they come from.
    """
    facts = _facts(plan)
    number = PROTOCOL_VERSION.of(plan.data.factory)
    return ProtocolRecord(
        reader=plan.data.name,
        version=f"{number}, cir-plugins {version('cir-plugins')}",
        protocol=protocol,
        gallery=facts.get("gallery", "images of the split"),
        gallery_images={split.name: len(split.gallery) for split in splits},
        reference="removed" if splits[0].drop_reference else "kept",
        text=_text(splits[0].captions, method),
        shared_concept=facts.get("shared_concept", ""),
        ties=TIES,
        models=origin.models,
        checkpoint=origin.checkpoint(plan.data.name, splits),
        data=data.short,
        weights=weights,
    )


def _facts(plan: Plan) -> Mapping[str, str]:
    """What the reader says of its protocol."""
    facts = PROTOCOL_FACTS.of(plan.data.build())
    if facts is None:
        return {}
    with plan.data.guarded(f"cannot describe {plan.root}"):
        return facts(plan.root)


def _text(rules: Captions, method: Method) -> str:
    """The caption rules that are not off, and the name of the method's edit."""
    switches = {name: getattr(rules, name) for name in CAPTION_SWITCHES}
    names = [
        name if value is True else f"{name}={value}"
        for name, value in switches.items()
        if value not in _OFF
    ]
    edit = type(method).caption_edit
    if edit is not None:
        names.append(f"edit={getattr(edit, '__name__', 'of the method')}")
    return ", ".join([rules.mode, *names])


def not_comparable(
    records: Mapping[str, Mapping[str, Any]], members: Iterable[str] = COMPARED
) -> list[str]:
    """A line for each member in which records differ, with the names of the results that have it.

    Args:
        records: Name of a result -> its record as plain values.
        members: Members to compare, of ``COMPARED``.
    """
    lines = []
    for member in members:
        groups: dict[str, list[str]] = {}
        for name, record in records.items():
            groups.setdefault(str(record.get(member, "")), []).append(name)
        if len(groups) > 1:
            found = "; ".join(f"{value or 'none'}: {', '.join(n)}" for value, n in groups.items())
            lines.append(f"{COMPARED[member]}: {found}")
    return lines
