"""One optimiser step: forward, backward, update; of a whole batch or of micro-batches.

With micro-batches the gradients of the embeddings are cached (GradCache):

1. Each slice of queries or candidates is embedded, without a graph.
2. The loss of the whole batch gives the gradient of every embedding.
3. Each slice is embedded again, with a graph, and its cached gradients flow back to the weights.

Several processes embed their own slices of one batch. Their gradients are summed, not averaged:
each process has the loss of the whole batch, and the way back of its own slices only.

Source: Gao, Zhang, Han, Callan, Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup (GradCache), RepL4NLP 2021, arXiv 2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cir_plugins.config.compatibility import whole_batch_message
from cir_plugins.config.settings import TrainingSettings
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.device import autocast, move_batch
from cir_plugins.encoding.features import Encoding
from cir_plugins.errors import CIRError, SharedError
from cir_plugins.features import concatenate, each, select, tensors_of
from cir_plugins.method import Method
from cir_plugins.seeds import mix_seed
from cir_plugins.training.activations import checkpoint_activations, compile_blocks
from cir_plugins.training.optim import make_optimizer, restarts
from cir_plugins.training.warm_start import Contrastive, Objective
from cir_plugins.types import Batch, Features

QUERIES, CANDIDATES, LOSS_TERMS = 0, 1, 2  # what the random numbers of a step are drawn for


@dataclass(frozen=True)
class BatchSlice:
    """Queries or candidates of a batch that are embedded together.

    Attributes:
        side: ``QUERIES`` or ``CANDIDATES``.
        index: Range of rows (queries) or columns (candidates) of the batch's scores.
        seed: Seed of the random numbers drawn while they are embedded.
    """

    side: int
    index: range
    seed: int


class Step:
    """The optimiser step of a method.

    Args:
        method: The method to train.
        settings: Optimiser, clipping, micro-batch, checkpointing, compile.
        encoding: Device and precision.
        seed: Seed of what is drawn while slices are embedded.
        processes: The processes that train together.

    Raises:
        CIRError: If the method needs whole batches and the settings divide them, or the backbone
            cannot be trained with these settings.
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
        self.objective: Objective = method
        self.warm_start = Contrastive(method)
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
        """Loss terms of a batch, before the update that lowers their sum.

        Args:
            batch: The batch.
            epoch: Epoch, from 0.
            number: Number of the step in the epoch, from 0.

        Raises:
            CIRError: If the loss is no finite number.
        """
        warm = self.settings.train.warm_start_epochs
        self.objective = self.warm_start if epoch < warm else self.method
        if (epoch, number) == (warm, 0) and restarts(self.settings):
            # Second moments of a loss with larger gradients would make its updates small.
            self.optimizer.state.clear()
        batch = move_batch(batch, self.encoding.device)
        self.optimizer.zero_grad(set_to_none=True)
        where = f"epoch {epoch}, step {number}"
        if self.micro_batched:
            terms = self._micro_batched_backward(batch, (epoch, number), where)
        else:
            terms = self._backward(lambda: self.objective.loss_terms(batch), where)
        if self.settings.train.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters(), self.settings.train.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {name: float(value.detach()) for name, value in terms.items()}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _backward(
        self, loss_terms: Callable[[], dict[str, Tensor]], where: str
    ) -> dict[str, Tensor]:
        with autocast(self.encoding.device, self.encoding.dtype):
            try:
                terms = loss_terms()
            except CIRError as error:
                if self.processes.size == 1:
                    raise
                # Each process has the terms of the whole batch.
                raise SharedError(str(error)) from error
            loss = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(loss)):
            values = ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items())
            raise SharedError(
                f"the loss is not finite at {where} ({values}); "
                "lower train.lr, set train.clip, or use train.precision=fp32"
            )
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return terms

    def _micro_batched_backward(
        self, batch: Batch, step: tuple[int, int], where: str
    ) -> dict[str, Tensor]:
        """Loss terms of a batch whose queries and candidates are embedded slice by slice."""
        if self.method.backbone.frozen_features and batch.features is None:
            batch = replace(batch, features=self._frozen_features(batch), images=None)
        queries, query_slices = self._embed_slices(batch, QUERIES, len(batch.reference), step)
        candidates, candidate_slices = self._embed_slices(
            batch, CANDIDATES, len(batch.candidates), step
        )
        torch.manual_seed(mix_seed(self.seed, *step, LOSS_TERMS))
        terms = self._backward(
            lambda: self.objective.loss_terms_from(queries, candidates, batch), where
        )
        if not self.processes.is_main:
            # Gradients of the loss terms' own parameters are the same in every process.
            self.optimizer.zero_grad(set_to_none=True)
        for leaves, slices in ((queries, query_slices), (candidates, candidate_slices)):
            for batch_slice, embeddings in slices:
                again = (
                    self._embed(batch, batch_slice)
                    if self.settings.train.micro_batch
                    else embeddings
                )
                _backward_from(again, leaves, batch_slice.index)
        self.processes.all_reduce_gradients(self._parameters())
        return terms

    def _embed_slices(
        self, batch: Batch, side: int, count: int, step: tuple[int, int]
    ) -> tuple[Features, list[tuple[BatchSlice, Features]]]:
        """Embeddings of a whole side of a batch as leaves of a graph, and this process's slices."""
        size = self.settings.train.micro_batch
        slices = [
            BatchSlice(side, index, mix_seed(self.seed, *step, side, number))
            for number, index in enumerate(self.processes.slices(count, size))
        ]
        with torch.set_grad_enabled(not size):
            shard = [(s, self._embed(batch, s)) for s in self.processes.shard_of(slices)]
        local_rows = (
            concatenate([each(embeddings, torch.Tensor.detach) for _, embeddings in shard])
            if shard
            else None
        )
        sizes = self.processes.shard_sizes(count, size)
        return each(self.processes.all_gather(local_rows, sizes), _leaf), shard

    def _frozen_features(self, batch: Batch) -> Features:
        if batch.images is None:
            raise ValueError("a batch needs images or features")
        if not len(batch.images):  # a process without a shard of the batch
            return batch.images
        size = self.settings.train.micro_batch or len(batch.images)
        with torch.no_grad(), autocast(self.encoding.device, self.encoding.dtype):
            return concatenate(
                [self.method.backbone.features(i) for i in torch.split(batch.images, size)]
            )

    def _embed(self, batch: Batch, batch_slice: BatchSlice) -> Features:
        # The same numbers are drawn when a slice is embedded again, and in whichever process.
        torch.manual_seed(batch_slice.seed)
        rows = slice(batch_slice.index.start, batch_slice.index.stop)
        images = (batch.reference if batch_slice.side == QUERIES else batch.candidates)[rows]
        with autocast(self.encoding.device, self.encoding.dtype):
            if batch.features is None and batch.images is not None:
                distinct, images = torch.unique(images, return_inverse=True)
                features = self.method.features(replace(batch, images=batch.images[distinct]))
            else:
                features = self.method.features(batch)
            features = select(features, images)
            if batch_slice.side == CANDIDATES:
                return self.objective.embed_targets(features)
            return self.objective.embed_queries(features, rows_of(batch, rows))


def rows_of(batch: Batch, rows: slice) -> Batch:
    """The texts of some queries of a batch, without images and candidates."""
    empty = batch.target[:0]
    return Batch(
        images=None,
        features=None,
        reference=empty,
        candidates=empty,
        target=empty,
        excluded=batch.excluded[:0],
        text=batch.text[rows],
        tokens={name: tokens[rows] for name, tokens in batch.tokens.items()},
        text_variants={
            variant: {name: tokens[rows] for name, tokens in tensors.items()}
            for variant, tensors in batch.text_variants.items()
        },
        triplet_index=None if batch.triplet_index is None else batch.triplet_index[rows],
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


def _backward_from(embeddings: Features, leaves: Features, index: range) -> None:
    """Backward pass of a slice's embeddings with the gradients cached in the leaves."""
    outputs, gradients = [], []
    for output, leaf in zip(tensors_of(embeddings), tensors_of(leaves), strict=True):
        if output.requires_grad and leaf.grad is not None:
            outputs.append(output)
            gradients.append(leaf.grad[index.start : index.stop])
    if outputs:
        torch.autograd.backward(outputs, gradients)
