"""The Python API: a retriever encodes images and queries, searches a gallery and is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch

from cir_plugins.config.plan import Plan
from cir_plugins.data.captions import Captions
from cir_plugins.data.inputs import Images, Texts, named_images, paired
from cir_plugins.data.split import Split
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.plugins.declarations import PROTOCOLS
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval.evaluate import encode_split, rankings
from cir_plugins.retrieval.search import Embeddings, Hits, Ids, check_count, search
from cir_plugins.retrieval.vectors import gallery_vectors, query_vectors
from cir_plugins.runs.build import build as build_method
from cir_plugins.runs.build import read_splits
from cir_plugins.runs.evaluation import Evaluation, evaluate_plans
from cir_plugins.runs.protocol import caption_rules_of, changed_options, plan_on
from cir_plugins.runs.protocol_record import Origin
from cir_plugins.runs.protocols import ProtocolTable

Named: TypeAlias = "str | Mapping[str, Any]"
"""A component's name, or its name and options as in a config: ``{"name": "clip", ...}``."""

BATCH_SIZE = 64


@dataclass(frozen=True)
class OpenedData:
    """A data set that was opened for a retriever.

    Attributes:
        plan: The retriever's plan on that data, every option with its value.
        method: The method with the options that it has there.
        encoding: Device, precision, loader processes and feature cache.
        splits: The splits of the role.
    """

    plan: Plan
    method: Method
    encoding: Encoding
    splits: tuple[Split, ...]


class Retriever:
    """A method with its weights and everything that its numbers depend on.

    Made by ``load`` (a run folder) or ``build`` (names of components). The caption rules,
    precision and device of the run are inside: Python gives the numbers that ``cir eval`` gives.

    Args:
        plan: What was built.
        method: The method with its weights; it is put into evaluation mode.
        encoding: Device, precision, loader processes and feature cache.
        registry: Where components and data sets come from.
        has_root: Whether the plan's data folder is one that data can be read from.
        origin: Where the weights come from; None for weights that no run trained.
        folder: The run folder that the weights come from, if any.

    Attributes:
        plan: What was built, every option with its value.
        method: The method.
        folder: The run folder that the weights come from; None where there is none.
        captions: How a text becomes a query.
    """

    def __init__(
        self,
        plan: Plan,
        method: Method,
        encoding: Encoding,
        registry: Registry,
        *,
        has_root: bool = True,
        origin: Origin | None = None,
        folder: Path | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.method = method.eval()
        self.captions: Captions = caption_rules_of(plan)
        self._encoding = encoding
        self._registry = registry
        self._has_root = has_root
        self._origin = origin or Origin(plan)

    @property
    def encoding(self) -> Encoding:
        """Device, precision, loader processes and feature cache."""
        return self._encoding

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._encoding.device

    def __repr__(self) -> str:
        names = f"{self.plan.method.name}, backbone={self.plan.backbone.name}"
        return f"Retriever({names}, device={self.device})"

    def encode_images(
        self, images: Images, *, batch_size: int = BATCH_SIZE, progress: bool | None = None
    ) -> Embeddings:
        """Gallery embeddings (N, D) or (N, T, D) of images, in their order.

        Args:
            images: A path or PIL picture, a sequence of them, or id -> image.
            batch_size: Images per forward pass.
            progress: Whether a bar is shown; None for the retriever's own setting.

        Raises:
            CIRError: If there is no image, or one cannot be read.
        """
        ids, sources = named_images(images)
        vectors = gallery_vectors(self.method, sources, self._with_batches(batch_size, progress))
        return Embeddings(ids, vectors, "encode_images")

    def encode_query(
        self,
        image: Images,
        text: Texts,
        *,
        category: str = "",
        raw_text: bool = False,
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
    ) -> Embeddings:
        """Query embeddings (Q, D) of reference images and modification texts.

        The run's caption rules (joining, case, prefix, the method's caption edit) are applied to
        each text, as in its training and evaluation.

        Args:
            image: One reference, or one for each text.
            text: One text, or one for each reference; a tuple of texts is one query's captions.
            category: Category of the images, for caption rules that name it.
            raw_text: Encode the texts as they are, without caption rules.
            batch_size: Images and queries per forward pass.
            progress: Whether a bar is shown; None for the retriever's own setting.

        Raises:
            CIRError: If there is no query, the numbers differ, or an image cannot be read.
        """
        _, sources = named_images(image)
        sources, captions = paired(sources, text)
        texts = [self.query_text(each, category, raw=raw_text) for each in captions]
        encoding = self._with_batches(batch_size, progress)
        vectors = query_vectors(self.method, sources, texts, encoding)
        return Embeddings(tuple(texts), vectors, "encode_query")

    def search(
        self,
        query: Embeddings,
        gallery: Embeddings,
        k: int = 10,
        *,
        exclude: Ids | Sequence[Ids] = (),
    ) -> Hits:
        """The k best gallery images of each query: exact, in memory, equal scores in gallery order.

        Args:
            query: What ``encode_query`` gives.
            gallery: What ``encode_images`` gives.
            k: Images per query.
            exclude: Ids that are left out, such as the reference's: for all queries, or one
                collection for each. A path counts as its text; unknown ids are ignored.

        Raises:
            CIRError: If k is below 1, query or gallery are no embeddings, or of different sizes.
        """
        return search(query, gallery, k, self.method.similarity, self.device, exclude)

    def evaluate(
        self,
        data: str = "",
        root: str | PathLike[str] | None = None,
        *,
        protocol: str = "",
        split: str = "val",
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
        **options: Any,
    ) -> Evaluation:
        """Measures on a data set, per-query values, protocol and counts: what ``cir eval`` gives.

        Args:
            data: Name of the data set; the run's own where it is left out.
            root: Its folder; the run's own where both are left out.
            protocol: Preset of its reader (``cir show dataset NAME``); it changes the gallery, the
                reference and the text, and no other data option of the run.
            split: ``train``, ``val`` or ``test``.
            batch_size: Images and queries per forward pass.
            progress: Whether bars are shown; None for the retriever's own setting.
            options: Options of the reader, over the protocol.

        Raises:
            CIRError: If a name or option is unknown, or the data cannot be read.
        """
        batches = batch_size, progress
        return self._evaluate(data, root, (protocol,), split, batches, options)[protocol]

    def evaluate_protocols(
        self,
        data: str = "",
        root: str | PathLike[str] | None = None,
        *,
        split: str = "val",
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
        **options: Any,
    ) -> ProtocolTable:
        """Measures under every protocol of the reader: what ``cir eval --protocol all`` gives.

        What protocols share is encoded once; the numbers are those of single calls, to the bit.

        Args:
            data: As in ``evaluate``.
            root: As in ``evaluate``.
            split: ``train``, ``val`` or ``test``.
            batch_size: Images and queries per forward pass.
            progress: Whether bars are shown; None for the retriever's own setting.
            options: Options of the reader, over every protocol.

        Raises:
            CIRError: If a name or option is unknown, or the data cannot be read.
        """
        name = data or self.plan.data.name
        presets = PROTOCOLS.of(self._registry.factory("dataset", name))
        names = {preset: preset for preset in presets} or {"": "default"}
        found = self._evaluate(data, root, names, split, (batch_size, progress), options)
        return ProtocolTable(name, {names[each]: found[each] for each in names})

    def _evaluate(
        self,
        data: str,
        root: str | PathLike[str] | None,
        protocols: Iterable[str],
        split: str,
        batches: tuple[int, bool | None],
        options: Mapping[str, Any],
    ) -> dict[str, Evaluation]:
        plans = {name: self._plan_on(data, root, name, options) for name in protocols}
        method = self._method_of(next(iter(plans.values())))
        encoding = self._with_batches(*batches)
        found = evaluate_plans(plans, method, encoding, split=split, origin=self._origin)
        return {
            name: replace(each, changed=changed_options(self.plan, plans[name]))
            for name, each in found.items()
        }

    def rank(
        self,
        data: str = "",
        root: str | PathLike[str] | None = None,
        *,
        protocol: str = "",
        split: str = "test",
        k: int = 50,
        groups: bool = False,
        progress: bool | None = None,
        **options: Any,
    ) -> list[tuple[Split, list[list[str]]]]:
        """Each split with the first k image ids of every query's ranking, also of blind splits.

        Args:
            data: Name of the data set; the run's own where it is left out.
            root: Its folder; the run's own where both are left out.
            protocol: Preset of its reader.
            split: ``train``, ``val`` or ``test``.
            k: Images per query.
            groups: Whether the rest of each query's group follows, in its order.
            progress: Whether bars are shown; None for the retriever's own setting.
            options: Options of the reader, over the protocol.

        Raises:
            CIRError: If a name or option is unknown, or the data cannot be read.
        """
        check_count("k", k)
        plan = self._plan_on(data, root, protocol, options)
        method = self._method_of(plan)
        encoding = self._with_batches(BATCH_SIZE, progress)
        return [
            (each, rankings(method, encode_split(method, each, encoding), k, groups=groups))
            for each in read_splits(plan, (split,))
        ]

    def open_data(
        self,
        data: str = "",
        root: str | PathLike[str] | None = None,
        *,
        protocol: str = "",
        split: str = "val",
        batch_size: int = BATCH_SIZE,
        progress: bool | None = None,
        **options: Any,
    ) -> OpenedData:
        """What ``evaluate`` would encode and rank: splits, method and encoding.

        Args:
            data: As in ``evaluate``.
            root: As in ``evaluate``.
            protocol: As in ``evaluate``.
            split: As in ``evaluate``.
            batch_size: As in ``evaluate``.
            progress: As in ``evaluate``.
            options: As in ``evaluate``.

        Raises:
            CIRError: If a name or option is unknown, the data cannot be read, or has no such split.
        """
        plan = self._plan_on(data, root, protocol, options)
        method = self._method_of(plan)
        splits = tuple(read_splits(plan, (split,)))
        if not splits:
            raise CIRError(f"data set '{plan.data.name}' in {plan.root} has no split for '{split}'")
        return OpenedData(plan, method, self._with_batches(batch_size, progress), splits)

    def _plan_on(
        self,
        data: str,
        root: str | PathLike[str] | None,
        protocol: str,
        options: Mapping[str, Any],
    ) -> Plan:
        """The plan on other data."""
        name = data or self.plan.data.name
        self._registry.factory("dataset", name)  # an unknown name is an error of its own
        if root is None and (name != self.plan.data.name or not self._has_root):
            raise CIRError(f"no folder of data set '{name}' is named; accepted: root (--root DIR)")
        return plan_on(self._registry, self.plan, name, root, protocol, options)

    def _method_of(self, plan: Plan) -> Method:
        """The method with the options that it has in a plan on other data."""
        if plan.method.options == self.plan.method.options:
            return self.method
        method = build_method(plan, self._encoding)
        method.load_state_dict(self.method.state_dict())
        return method.eval()

    def _with_batches(self, batch_size: int, progress: bool | None) -> Encoding:
        check_count("batch_size", batch_size)
        bars = self._encoding.progress if progress is None else progress
        return replace(self._encoding, batch_size=batch_size, progress=bars)

    def query_text(
        self, captions: tuple[str, ...], category: str = "", *, raw: bool = False
    ) -> str:
        """The text of a query: its captions under the run's caption rules.

        Args:
            captions: One or more.
            category: Category of the image, for caption rules that name it.
            raw: The one caption as it is.

        Raises:
            CIRError: If there are several captions, and they are to stay as they are.
        """
        if not raw:
            edit = type(self.method).caption_edit
            return self.captions.texts(captions, category, edit)[0]
        if len(captions) > 1:
            raise CIRError("raw_text takes one text per query, not a tuple of captions")
        return captions[0]
