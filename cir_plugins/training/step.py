"""One optimiser step: forward, backward, update; of a batch whole or embedded in micro-batches.

By parts means that the embeddings of all rows are computed first, the loss on all of them gives
the gradient of each embedding, and every part is then embedded again (or was kept) and handed its
gradients. Several processes have their own parts of one batch; the gradients of all are summed, not
averaged, since each process has the loss of the whole batch and only its own rows' share of the
way back.

Source: Gao, Zhang, Han, Callan, Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup (GradCache), RepL4NLP 2021, arXiv 2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cir_plugins.config.compatibility import whole_batch_message
from cir_plugins.config.settings import TrainingSettings
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.device import autocast, move_batch
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError, SharedError
from cir_plugins.features import concatenate, each, select
from cir_plugins.method import Method
from cir_plugins.seeds import mix
from cir_plugins.training.activations import checkpoint_activations, compile_blocks
from cir_plugins.training.optim import make_optimizer
from cir_plugins.types import Batch, Features

QUERIES, TARGETS, TERMS = 0, 1, 2  # what the random numbers of a step are drawn for


@dataclass(frozen=True)
class Slice:
    """Rows of one side of a batch that are embedded together.

    Attributes:
        side: ``QUERIES`` or ``TARGETS``.
        rows: Which rows, or columns.
        seed: Of the random numbers drawn while they are embedded.
    """

    side: int
    rows: range
    seed: int


class Step:
    """Makes optimiser steps.

    Args:
        method: What is trained.
        settings: Optimiser, clipping, micro-batch, checkpointing, compile.
        encoding: Device and precision.
        seed: Seed of what is drawn while parts are embedded.
        processes: The processes that train together.

    Raises:
        CIRError: If the method needs a batch whole and the settings have it in parts, or the
            backbone cannot be trained as the settings say.
    """

    def __init__(
        self,
        method: Method,
        settings: TrainingSettings,
        encoding: Encoding,
        *,
        seed: int,
        processes: ProcessGroup,
    ) -> None:
        self.method = method
        self.settings = settings
        self.encoding = encoding
        self.seed = seed
        self.processes = processes
        if settings.memory.checkpointing:
            checkpoint_activations(method.backbone)
        if settings.memory.compile:
            compile_blocks(method.backbone)
        self.optimizer = make_optimizer(method, settings.train)
        fp16 = encoding.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(encoding.device.type, enabled=fp16)
        self.micro_batched = bool(settings.train.micro_batch) or processes.size > 1
        if self.micro_batched:
            size, rows = processes.size, settings.train.micro_batch
            check_micro_batching(
                method,
                f"{size} processes share it" if size > 1 else f"train.micro_batch is {rows}",
            )

    def __call__(self, batch: Batch, epoch: int, number: int) -> dict[str, float]:
        """The terms of a batch, after an update that lowers their sum.

        Raises:
            CIRError: If the loss is no finite number.
        """
        batch = move_batch(batch, self.encoding.device)
        self.optimizer.zero_grad(set_to_none=True)
        where = f"epoch {epoch}, step {number}"
        if self.micro_batched:
            terms = self._by_parts(batch, (epoch, number), where)
        else:
            terms = self._backward(lambda: self.method.loss_terms(batch), where)
        if self.settings.train.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._trained(), self.settings.train.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {name: float(value.detach()) for name, value in terms.items()}

    def _trained(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _backward(self, make: Callable[[], dict[str, Tensor]], where: str) -> dict[str, Tensor]:
        with autocast(self.encoding.device, self.encoding.dtype):
            try:
                terms = make()
            except CIRError as error:
                if self.processes.size == 1:
                    raise
                # Each process has the terms of the whole batch.
                raise SharedError(str(error)) from error
            loss = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(loss)):
            named = ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items())
            raise SharedError(
                f"the loss is not finite at {where} ({named}); "
                "lower train.lr, set train.clip, or use train.precision=fp32"
            )
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return terms

    def _by_parts(self, batch: Batch, place: tuple[int, int], where: str) -> dict[str, Tensor]:
        if self.method.backbone.frozen_features and batch.features is None:
            batch = replace(batch, features=self._frozen_features(batch), images=None)
        chunk = self.settings.train.micro_batch
        sides: list[Features] = []
        kept: list[tuple[Slice, Features]] = []
        for side, count in ((QUERIES, len(batch.reference)), (TARGETS, len(batch.candidates))):
            ranges = self.processes.slices(count, chunk)
            seeds = [mix(self.seed, *place, side, number) for number in range(len(ranges))]
            parts = [Slice(side, rows, s) for rows, s in zip(ranges, seeds, strict=True)]
            with torch.set_grad_enabled(not chunk):
                own = [(part, self._embed(batch, part)) for part in self.processes.assigned(parts)]
            kept += own
            whole = concatenate([each(f, torch.Tensor.detach) for _, f in own]) if own else None
            sides.append(
                each(self.processes.all_gather(whole, self.processes.counts(count, chunk)), _leaf)
            )
        torch.manual_seed(mix(self.seed, *place, TERMS))
        terms = self._backward(
            lambda: self.method.loss_terms_from(sides[QUERIES], sides[TARGETS], batch), where
        )
        if not self.processes.is_main:
            # What the terms themselves are trained by has its gradient in every process.
            self.optimizer.zero_grad(set_to_none=True)
        for part, embedded in kept:
            again = self._embed(batch, part) if chunk else embedded
            _back(again, sides[part.side], part.rows)
        self.processes.all_reduce_gradients(self._trained())
        return terms

    def _frozen_features(self, batch: Batch) -> Features:
        if batch.images is None:
            raise ValueError("a batch needs images or features")
        if not len(batch.images):  # a process without rows
            return batch.images
        size = self.settings.train.micro_batch or len(batch.images)
        with torch.no_grad(), autocast(self.encoding.device, self.encoding.dtype):
            return concatenate(
                [self.method.backbone.features(i) for i in torch.split(batch.images, size)]
            )

    def _embed(self, batch: Batch, part: Slice) -> Features:
        # The same numbers are drawn when the part is embedded again, and by whichever process.
        torch.manual_seed(part.seed)
        rows = slice(part.rows.start, part.rows.stop)
        index = (batch.reference if part.side == QUERIES else batch.candidates)[rows]
        with autocast(self.encoding.device, self.encoding.dtype):
            if batch.features is None and batch.images is not None:
                images, index = torch.unique(index, return_inverse=True)
                features = self.method.features(replace(batch, images=batch.images[images]))
            else:
                features = self.method.features(batch)
            seen = select(features, index)
            if part.side == TARGETS:
                return self.method.embed_targets(seen)
            return self.method.embed_queries(seen, rows_of(batch, rows))


def rows_of(batch: Batch, rows: slice) -> Batch:
    """The texts of some rows of a batch, without its images and columns."""
    none = batch.target[:0]
    return Batch(
        images=None,
        features=None,
        reference=none,
        candidates=none,
        target=none,
        excluded=batch.excluded[:0],
        text=batch.text[rows],
        tokens={name: tokens[rows] for name, tokens in batch.tokens.items()},
        text_variants={
            view: {name: tokens[rows] for name, tokens in given.items()}
            for view, given in batch.text_variants.items()
        },
        rows=None if batch.rows is None else batch.rows[rows],
        changed=batch.changed[rows],
    )


def check_micro_batching(method: Method, cause: str) -> None:
    """Nothing, if a built method's batches can be embedded in micro-batches.

    Args:
        method: The method; batch norm shows only once it is built.
        cause: Why they are, such as ``2 processes share it``.

    Raises:
        CIRError: With the cause.
    """
    if not method.supports_micro_batches():
        raise CIRError(whole_batch_message(type(method).__name__, cause))
    method.train()
    for name, module in method.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise CIRError(
                f"batch norm '{name}' takes its statistics from a whole batch, but {cause}; "
                "accepted: train.micro_batch=0 in one process"
            )


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _back(embedded: Features, leaves: Features, rows: range) -> None:
    """Hand the gradients that the leaves got to a part's embeddings, and back to the weights."""
    pairs: list[tuple[Any, Any]] = (
        [(embedded, leaves)]
        if isinstance(embedded, Tensor)
        else [*zip(embedded, leaves, strict=True)]
    )
    trained = [
        (own, leaf.grad[rows.start : rows.stop])
        for own, leaf in pairs
        if own.requires_grad and leaf.grad is not None
    ]
    if trained:
        torch.autograd.backward([own for own, _ in trained], [grad for _, grad in trained])
