"""Training settings and recipes: the only home of a method's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Component:
    """A named part and the options it is given.

    Attributes:
        name: Name under which a plugin offers the part.
        options: Keyword parameters of the part's factory that differ from its defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainSettings:
    """How a method is trained.

    Attributes:
        epochs: Passes over the training rows; 0 for methods that are not trained.
        batch_size: Queries per step, at most.
        drop_last: Whether an incomplete last batch is left out; where not, the rows are shared
            out evenly over the batches.
        lr: Peak learning rate.
        weight_decay: Decay of every trained parameter.
        betas: Decay rates of the optimiser's moment estimates (Adam family); momentum is the first.
        eps: Term added to the denominator of the update (Adam family).
        optimizer: ``adamw``, ``adam``, ``radam`` (decoupled decay) or ``sgd``.
        schedule: ``constant``, ``cosine`` (per epoch), ``cosine_steps`` (per step), ``one_cycle``
            (per step) or ``step`` (times ``gamma`` at each of ``milestones``).
        lr_floor: Share of the peak at which the cosine schedules end.
        schedule_epochs: Epochs over which the schedule is laid out; 0 for ``epochs``.
        warmup: Share of the run spent rising to the peak (``one_cycle``, ``cosine_steps``).
        start_factor: Share of the peak from which ``one_cycle`` rises.
        milestones: Epochs at which ``step`` lowers the rate.
        gamma: Factor of ``step``.
        clip: Largest gradient norm; 0 for no clipping.
        negatives: ``batch``: the sampler filters the columns of the batch. ``mined``: each row has
            negatives of its own, drawn from what the sampler leaves of the training images.
            ``both``: the two together.
        mined: Negatives drawn per query and epoch (K).
        mine_every: Epochs between refreshes of the mined negatives; 0 for max(1, epochs // 6).
        mine_from: First epoch mined with the model; before it negatives are drawn at random.
            -1 for ``mine_every``.
        known: Which known images never are negatives. ``positives``: every positive the data
            names, and the reference where the protocol removes it. ``target``: the target only, as
            where nobody has annotated the other positives and in all official code.
        pool: What negatives are mined from: the split's ``gallery``, or the ``targets`` of its
            training queries.
        augment: Augmentation of training images (see ``cir_plugins.data.augment``); ``none`` allows
            features to be computed once where they are frozen.
        validate_every: Epochs between validations; 0 for the last epoch only.
        select: ``best``: the checkpoint with the highest main measure on the validation splits.
            ``last``: the last epoch's.
        precision: ``auto`` (bf16 where the GPU has it, else fp32), ``fp32``, ``bf16``, ``fp16``.
        chunk: Rows of a batch that are embedded at once; 0 for all. The loss is that of the whole
            batch, whose embeddings are computed twice, in the memory that a chunk takes.
        checkpointing: Whether the backbone's activations are computed again in the backward pass
            instead of kept.
        compile: Whether the backbone's repeated blocks are compiled.
        fused: Whether ``adamw`` and ``adam`` update all weights in one kernel on the CPU too, as
            they do on CUDA: faster for large models, other in the last bits.
        ema: Decay of an exponential moving average of the weights that validation and the final
            checkpoint use; 0 for none.
    """

    epochs: int = 10
    batch_size: int = 32
    drop_last: bool = False
    lr: float = 1e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    optimizer: Literal["adamw", "adam", "radam", "sgd"] = "adamw"
    schedule: Literal["constant", "cosine", "cosine_steps", "one_cycle", "step"] = "cosine"
    lr_floor: float = 0.0
    schedule_epochs: int = 0
    warmup: float = 0.0
    start_factor: float = 0.04
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    clip: float = 0.0
    negatives: Literal["batch", "mined", "both"] = "batch"
    mined: int = 1
    mine_every: int = 0
    mine_from: int = -1
    known_positives: Literal["all", "target"] = "all"
    pool: Literal["gallery", "targets"] = "gallery"
    augment: Literal["none", "flip", "crop_flip", "shift_crop_flip", "rand_augment", "photo"] = (
        "none"
    )
    validate_every: int = 1
    select: Literal["best", "last"] = "best"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    micro_batch: int = 0
    checkpointing: bool = False
    compile: bool = False
    fused: bool = False
    ema: float = 0.0

    @property
    def refresh(self) -> int:
        """Epochs between refreshes of mined negatives."""
        return self.mine_every or max(1, self.epochs // 6)

    @property
    def first_refresh(self) -> int:
        """First epoch whose negatives are mined with the model."""
        return self.refresh if self.mine_from < 0 else self.mine_from


@dataclass(frozen=True)
class Recipe:
    """The parts and settings a method was published with.

    Attributes:
        source: Authors, title, venue or arXiv id.
        backbone: Backbone of the published numbers.
        loss: Loss of the published method.
        sampler: Sampler of the published method.
        train: Training settings.
        datasets: Data set name -> differences, keyed ``train.epochs`` or ``data.caption_mode``.
    """

    source: str
    backbone: Component = field(default_factory=lambda: Component("blip2"))
    loss: Component = field(default_factory=lambda: Component("info_nce"))
    sampler: Component = field(default_factory=lambda: Component("in_batch"))
    train: TrainSettings = field(default_factory=TrainSettings)
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSettings:
    """Where and how a command runs; only ``seed``, ``start`` and a lossy cache change results.

    Attributes:
        seed: Seed of everything that is drawn.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        workers: Loader processes; -1 for one less than the cores, at most 4.
        feature_cache_mb: Memory that features of a frozen tower may take before they are computed
            anew in every epoch, in MiB.
        start: Folder of a run, of the same method and backbone, whose chosen weights training
            starts from.
        feature_cache: Folder where features that do not change are kept for this and other runs;
            empty for none.
        feature_cache_dtype: How they are stored; ``same`` as computed, without loss.
    """

    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    workers: int = -1
    feature_cache_mb: int = 4096
    warm_start: str | None = None
    feature_cache: str = ""
    feature_cache_dtype: Literal["same", "fp32", "fp16", "bf16"] = "same"
