"""Settings and recipes: the only home of a method's defaults.

Each class of settings is one table of a configuration: ``TrainSettings`` is ``[train]`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from cir_plugins.config.records import Record, first_errors
from cir_plugins.errors import CIRError, shown, unknown_name

Augmentation = Literal["none", "flip", "crop_flip", "shift_crop_flip", "rand_augment", "photo"]
_Decay = Annotated[float, Field(ge=0, lt=1)]
_Epoch = Annotated[int, Field(ge=0)]
_ALIKE = 0.75
_SHORT, _SHORT_ALIKE = 3, 0.8  # three letters are like those of many names


class Settings(Record):
    """A table of settings, checked when it is made.

    Raises:
        CIRError: If a key is unknown or a value does not fit; one message for each.
    """

    table: ClassVar[str]

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise CIRError("\n".join(self._problems(error, values))) from error

    @classmethod
    def _problems(cls, error: ValidationError, values: Mapping[str, Any]) -> Iterator[str]:
        options = cls.options()
        for key, detail in first_errors(error):
            if detail["type"] == "extra_forbidden":
                yield _unknown(cls.table, key)
            else:
                text = shown(values[key])
                yield f"{cls.table}.{key} cannot be {text}; accepted: {options[key].accepted}"


class TrainSettings(Settings):
    """How a method is trained: length, batches, optimiser, validation."""

    table: ClassVar[str] = "train"

    epochs: Annotated[int, Field(ge=0)] = 10
    """Passes over the training triplets; 0 for methods that are not trained."""
    warm_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of ``epochs``, the first ones, that train contrastively: in-batch InfoNCE on the
    method's queries, whatever its own loss and negatives. A loss on few negatives needs such a
    start."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Queries per step, at most."""
    drop_last: bool = False
    """Whether an incomplete last batch is left out; where not, the triplets are shared out evenly
    over the batches."""
    optimizer: Literal["adamw", "adam", "radam", "sgd"] = "adamw"
    """Optimiser; ``radam`` has decoupled decay."""
    lr: Annotated[float, Field(gt=0, le=1000)] = 1e-4
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=1000)] = 0.05
    """Decay of every trained parameter."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    """Decay rates of the optimiser's moment estimates (Adam family); momentum is the first."""
    eps: Annotated[float, Field(ge=0, le=1)] = 1e-8
    """Term added to the denominator of the update (Adam family)."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """Largest gradient norm; 0 for no clipping."""
    fused: bool = False
    """Whether ``adamw`` and ``adam`` update all weights in one kernel on the CPU too, as they do on
    CUDA: faster for large models, other in the last bits."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the forward pass; ``auto``: bf16 where the GPU has it, else fp32."""
    augment: Augmentation = "none"
    """Augmentation of training images (see ``cir_plugins.data.images``); ``none`` allows features
    to be computed once where they are frozen."""
    known_positives: Literal["all", "target"] | Annotated[float, Field(ge=0, le=1)] = "all"
    """Which known images never are negatives. ``all``: every positive in the data, the targets of
    triplets with the same reference and captions, and the reference where the protocol removes it.
    ``target``: the annotated target only, as where nobody has annotated the other positives and in
    all official code. A share: the target and that part of the images of ``all``, drawn once, to
    see what an unmarked positive costs."""
    micro_batch: Annotated[int, Field(ge=0)] = 0
    """Queries, or candidates, that are embedded at once, with cached gradients; 0 for the whole
    batch. The loss is that of the whole batch, whose embeddings are computed twice, in the memory
    that a micro-batch takes."""
    validate_every: Annotated[int, Field(ge=0)] = 1
    """Epochs between validations; 0 for the last epoch only."""
    select: Literal["best", "last"] = "best"
    """The final checkpoint. ``best``: that with the highest main measure on the validation splits.
    ``last``: the last epoch's."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights that validation and the final
    checkpoint use; 0 for none."""

    @property
    def warm_start_epochs(self) -> int:
        """How many epochs the warm start has."""
        return round(self.warm_start * self.epochs)


class ScheduleSettings(Settings):
    """How the learning rate goes over a run, as a share of its peak ``train.lr``."""

    table: ClassVar[str] = "schedule"

    name: Literal["constant", "cosine", "cosine_steps", "one_cycle", "step"] = "cosine"
    """``constant``, ``cosine`` (per epoch), ``cosine_steps`` (per step), ``one_cycle`` (per step)
    or ``step`` (times ``gamma`` at each of ``milestones``)."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the peak at which the cosine schedules end."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs over which the schedule is laid out; 0 for ``train.epochs``."""
    warmup: Annotated[float, Field(ge=0, le=0.99)] = 0.0
    """Share of the run spent rising to the peak (``one_cycle``, ``cosine_steps``, ``step``)."""
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04
    """Share of the peak from which ``one_cycle`` and ``step`` rise."""
    milestones: tuple[_Epoch, ...] = ()
    """Epochs at which ``step`` lowers the rate."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of ``step``."""
    restart: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the peak at which a cosine schedule starts anew when the warm start
    (``train.warm_start``) has ended, over the epochs that are left, and with it the optimiser, as
    in a run that starts from another run; 0 for one schedule and one optimiser over all epochs, as
    with the other schedules."""


class MiningSettings(Settings):
    """Where the negatives of a query come from."""

    table: ClassVar[str] = "mining"

    negatives: Literal["batch", "mined", "both"] = "batch"
    """``batch``: the sampler filters the columns of the batch. ``mined``: each triplet has
    negatives of its own, drawn from what the sampler leaves of the training images. ``both``: the
    two together."""
    per_query: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Negatives drawn per query and epoch (K)."""
    filter: Literal["batch", "corpus", "none"] = "batch"
    """What the sampler filters the columns of the batch by. ``batch``: their scores in the batch.
    ``corpus``: at each refresh the sampler marks the images that are ambiguous for a query among
    all that negatives are mined from, and those are no negatives in its batches. ``none``: by
    nothing; the sampler chooses the mined negatives alone."""
    every: Annotated[int, Field(ge=0)] = 0
    """Epochs between refreshes of the mined negatives; 0 for a sixth of the epochs after the warm
    start, at least 1."""
    start: Annotated[int, Field(ge=-1)] = -1
    """First epoch mined with the model, never before the warm start ends; before it negatives are
    drawn at random. -1 for the end of the warm start, or else the epochs between two refreshes."""
    scored_by: Literal["query", "target", "queries"] = "query"
    """What the candidates are scored by for the sampler. ``query``: as in a search. ``target``: by
    their similarity to the target image. ``queries``: by the highest cosine of the query with one
    whose target the candidate is, -1 where there is none. In the last two the target's own score
    is the highest."""
    with_reference: bool = False
    """Whether each query's reference is one more mined negative, unless it is a positive."""
    from_images: Literal["gallery", "targets"] = "gallery"
    """What negatives are mined from: the split's ``gallery``, or the ``targets`` of its training
    queries."""


class MemorySettings(Settings):
    """What is kept in memory, and what is computed again instead."""

    table: ClassVar[str] = "memory"

    checkpointing: bool = False
    """Whether the backbone's activations are computed again in the backward pass instead of
    kept."""
    compile: bool = False
    """Whether the backbone's repeated blocks are compiled."""
    feature_cache_mb: Annotated[int, Field(ge=0)] = 4096
    """Memory that features of a frozen tower may take before they are computed anew in every epoch,
    in MiB."""


class RunSettings(Settings):
    """Where and how a command runs.

    Only ``seed``, ``warm_start`` and a lossy cache change results.
    """

    table: ClassVar[str] = "run"

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of everything that is drawn."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """``auto`` takes CUDA, then MPS, then the CPU."""
    workers: Annotated[int, Field(ge=-1, le=256)] = -1
    """Loader processes; -1 for one less than the cores, at most 4."""
    warm_start: str | None = None
    """Folder of a run, of the same method and backbone, whose chosen weights training starts
    from."""
    feature_cache: str = ""
    """Folder where features that do not change are kept for this and other runs; empty for none."""
    feature_cache_dtype: Literal["same", "fp32", "fp16", "bf16"] = "same"
    """How they are stored; ``same`` as computed, without loss."""


SETTINGS: Mapping[str, type[Settings]] = MappingProxyType(
    {
        kind.table: kind
        for kind in (TrainSettings, ScheduleSettings, MiningSettings, MemorySettings, RunSettings)
    }
)


def similar_options(name: str, *, without: str = "") -> list[str]:
    """The options ``table.option`` that a name most likely means; mostly none.

    Args:
        name: Such as ``epochs``, ``mine_every`` or the name of a table.
        without: A table to leave out.
    """
    return _most_alike(name, without)[1]


def _most_alike(name: str, without: str) -> tuple[float, list[str]]:
    """How alike the options of other tables are at best, and those options."""
    ratios: dict[str, float] = {}
    for table, kind in SETTINGS.items():
        for number, option in enumerate(kind.model_fields):
            spellings = [option, f"{table}_{option}", *([table] if number == 0 else [])]
            if table != without:
                ratios[f"{table}.{option}"] = max(_ratio(name, other) for other in spellings)
    best = max(ratios.values())
    enough = _ALIKE if len(name) > _SHORT else _SHORT_ALIKE
    return best, [option for option in ratios if ratios[option] == best >= enough]


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _unknown(table: str, key: str) -> str:
    """The message for an option that its table does not have."""
    options = SETTINGS[table].model_fields
    alike, elsewhere = _most_alike(key, table)
    if elsewhere and alike > max(_ratio(key, name) for name in options):
        near = [f"{table}.{name}" for name in options if name.endswith(f"_{key}")] + elsewhere
        return f"unknown option {table}.{key}; did you mean {' or '.join(near)}?"
    others = ", ".join(other for other in SETTINGS if other != table)
    hint = f"other tables of settings: {others}; see cir show {table}"
    return str(unknown_name(f"[{table}] option", key, options, hint=hint))


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a trainer.

    Attributes:
        train: Length, batches, optimiser, validation.
        schedule: The learning rate over the run.
        mining: Where negatives come from.
        memory: What is kept in memory.
    """

    train: TrainSettings = field(default_factory=TrainSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    mining: MiningSettings = field(default_factory=MiningSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)

    @property
    def schedule_epochs(self) -> int:
        """Epochs over which the schedule is laid out."""
        return self.schedule.epochs or self.train.epochs

    @property
    def refresh(self) -> int:
        """Epochs between refreshes of mined negatives."""
        return self.mining.every or max(1, (self.train.epochs - self.train.warm_start_epochs) // 6)

    @property
    def first_refresh(self) -> int:
        """First epoch whose negatives are mined with the model."""
        warm = self.train.warm_start_epochs
        if self.mining.start < 0:
            return warm or self.refresh
        return max(warm, self.mining.start)

    @property
    def refreshes(self) -> bool:
        """Whether the training images are scored at intervals, for negatives or for a filter."""
        return self.mining.negatives != "batch" or self.mining.filter == "corpus"


@dataclass(frozen=True)
class Component:
    """A named component and its options.

    Attributes:
        name: Name under which a plugin offers the component.
        options: Keyword parameters of the component's factory that differ from its defaults.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """The components and settings a method was published with.

    Attributes:
        source: Authors, title, venue or arXiv id.
        backbone: Backbone of the published numbers.
        loss: Loss of the published method.
        sampler: Sampler of the published method.
        train: Length, batches, optimiser, validation.
        schedule: The learning rate over the run.
        mining: Where negatives come from.
        memory: What is kept in memory.
        options: Options of the method that differ from its defaults, as in a method that another
            one is derived from.
        datasets: Data set name -> differences, keyed ``train.epochs`` or ``data.caption_mode``.
    """

    source: str
    backbone: Component = field(default_factory=lambda: Component("blip2"))
    loss: Component = field(default_factory=lambda: Component("info_nce"))
    sampler: Component = field(default_factory=lambda: Component("in_batch"))
    train: TrainSettings = field(default_factory=TrainSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    mining: MiningSettings = field(default_factory=MiningSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    options: Mapping[str, Any] = field(default_factory=dict)
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings(self) -> dict[str, Settings]:
        """The settings by name of their table."""
        return {
            "train": self.train,
            "schedule": self.schedule,
            "mining": self.mining,
            "memory": self.memory,
        }
