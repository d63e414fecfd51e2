"""The Python API: a retriever encodes images and queries, searches a gallery and is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import make_plan
from cir_plugins.config.toml import Config, merge
from cir_plugins.data.captions import Captions
from cir_plugins.data.inputs import Images, Texts, named_images, paired
from cir_plugins.data.split import Split
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.plugins.registry import Registry
from cir_plugins.retrieval.evaluate import encode_split, rankings
from cir_plugins.retrieval.search import Embeddings, Hits, Ids, check_count, search
from cir_plugins.retrieval.vectors import gallery_vectors, query_vectors
from cir_plugins.runs.arguments import component_config, config_of
from cir_plugins.runs.build import build as build_method
from cir_plugins.runs.build import make_encoding, read_splits
from cir_plugins.runs.evaluation import Evaluation, evaluate_plan
from cir_plugins.runs.folder import is_converted
from cir_plugins.runs.load import open_run
from cir_plugins.runs.protocol import caption_rules_of, changed_options, retarget

Named: TypeAlias = "str | Mapping[str, Any]"
"""A component's name, or its name and options as in a config: ``{"name": "clip", ...}``."""

# The data set whose recipe and caption rules count by default.
DATA = "fashioniq"
BATCH_SIZE = 64


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
        folder: Path | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.method = method.eval()
        self.captions: Captions = caption_rules_of(plan)
        self._encoding = encoding
        self._registry = registry
        self._has_root = has_root

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
        return Embeddings(ids, vectors)

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
        return Embeddings(tuple(texts), query_vectors(self.method, sources, texts, encoding))

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
        plan, method = self._retarget(data, root, protocol, options)
        encoding = self._with_batches(batch_size, progress)
        evaluation = evaluate_plan(plan, method, encoding, split=split, protocol=protocol)
        return replace(evaluation, changed=changed_options(self.plan, plan))

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
        plan, method = self._retarget(data, root, protocol, options)
        encoding = self._with_batches(BATCH_SIZE, progress)
        return [
            (each, rankings(method, encode_split(method, each, encoding), k, groups=groups))
            for each in read_splits(plan, (split,))
        ]

    def _retarget(
        self,
        data: str,
        root: str | PathLike[str] | None,
        protocol: str,
        options: Mapping[str, Any],
    ) -> tuple[Plan, Method]:
        """The plan on other data, and the method with the options that the plan has there."""
        name = data or self.plan.data.name
        self._registry.factory("dataset", name)  # an unknown name is an error of its own
        if root is None and (name != self.plan.data.name or not self._has_root):
            raise CIRError(
                f"no folder of data set '{name}' is named; accepted: root=, or --root DIR"
            )
        config = config_of(self.plan)
        folder = self.plan.root if root is None else Path(root)
        changes = retarget(self._registry, config, name, folder, protocol, options)
        plan = make_plan(self._registry, merge(config, changes))
        if plan.method.options == self.plan.method.options:
            return plan, self.method
        method = build_method(plan, self._encoding)
        method.load_state_dict(self.method.state_dict())
        return plan, method.eval()

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


def load(
    folder: str | PathLike[str],
    *,
    device: str = "",
    feature_cache: str | PathLike[str] | None = None,
    progress: bool = True,
    registry: Registry | None = None,
) -> Retriever:
    """The retriever of a run folder, trained or converted, with its chosen weights.

    Args:
        folder: The run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; the run's own where it is left out.
        feature_cache: Folder of cached features; the run's own where it is left out.
        progress: Whether bars are shown.
        registry: Where components come from; None for all installed plugins.

    Raises:
        CIRError: If the folder is no run, or its weights do not fit.
    """
    folder = Path(folder)
    registry = registry or Registry.load()
    run = {"device": device, "feature_cache": str(feature_cache or "")}
    overrides: Config = {"run": {key: value for key, value in run.items() if value}}
    plan, method, encoding = open_run(folder, registry, overrides=overrides, progress=progress)
    has_root = plan.root != Path() or not is_converted(folder)
    return Retriever(plan, method, encoding, registry, has_root=has_root, folder=folder)


def build(
    method: Named,
    *,
    backbone: Named | None = None,
    loss: Named | None = None,
    sampler: Named | None = None,
    data: Named = DATA,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = True,
    registry: Registry | None = None,
    **options: Any,
) -> Retriever:
    """A retriever made of components by name, with the weights that its backbone brings.

    Args:
        method: Name of the method (``cir list method``).
        backbone: Name, or name and options; the recipe's where it is left out.
        loss: As ``backbone``; used in training alone.
        sampler: As ``backbone``; used in training alone.
        data: Data set whose recipe and caption rules count, or its name and reader's options.
        seed: Seed of weights that are drawn.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        progress: Whether bars are shown.
        registry: Where components come from; None for all installed plugins.
        options: Options of the method.

    Raises:
        CIRError: If a name or option is unknown, or the combination cannot work.
    """
    registry = registry or Registry.load()
    components = {"backbone": backbone, "loss": loss, "sampler": sampler, "data": data}
    config = {name: component_config(each) for name, each in components.items() if each}
    config["method"] = {**component_config(method), **options}
    has_root = "root" in config["data"]
    config["data"].setdefault("root", ".")
    # Not trained here: combinations that only training could not use are accepted.
    config["train"] = {"epochs": 0, "precision": precision}
    config["run"] = {"seed": seed, "device": device}
    return of_plan(make_plan(registry, config), registry, progress=progress, has_root=has_root)


def of_plan(
    plan: Plan, registry: Registry, *, progress: bool = True, has_root: bool = False
) -> Retriever:
    """The retriever of a plan, with the weights that its backbone brings.

    Args:
        plan: What is built.
        registry: Where components come from.
        progress: Whether bars are shown.
        has_root: Whether the plan's data folder is one that data can be read from.

    Raises:
        CIRError: If a component does not accept a value.
    """
    encoding = replace(make_encoding(plan, progress), finished=True)
    return Retriever(plan, build_method(plan, encoding), encoding, registry, has_root=has_root)
