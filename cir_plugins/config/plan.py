"""What a command will do: every name and option checked, every default filled in, nothing built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cir_plugins.config.settings import (
    MemorySettings,
    MiningSettings,
    RunSettings,
    ScheduleSettings,
    Settings,
    TrainingSettings,
    TrainSettings,
)
from cir_plugins.config.toml import Config, write_config
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Kind


@dataclass(frozen=True)
class PlannedComponent:
    """A component whose name and options have been checked.

    Attributes:
        kind: What it is.
        name: Its name.
        factory: Class or function that builds it.
        options: Every option with its value, defaults included.
    """

    kind: Kind
    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any]

    def build(self) -> Any:
        """The component.

        Raises:
            CIRError: If the factory raises a ``ValueError`` for an option.
        """
        try:
            return self.factory(**self.options)
        except ValueError as error:
            raise CIRError(f"{self.kind} '{self.name}': {error}") from error


@dataclass(frozen=True)
class Plan:
    """All settings and components of a run.

    Attributes:
        method: The method; its factory takes ``Components`` beside the options.
        backbone: The backbone.
        loss: The loss.
        sampler: The sampler.
        data: The reader.
        root: Folder of the data set.
        train: Length, batches, optimiser, validation.
        schedule: The learning rate over the run.
        mining: Where negatives come from.
        memory: What is kept in memory.
        run: Where and how to run.
    """

    method: PlannedComponent
    backbone: PlannedComponent
    loss: PlannedComponent
    sampler: PlannedComponent
    data: PlannedComponent
    root: Path
    train: TrainSettings
    schedule: ScheduleSettings
    mining: MiningSettings
    memory: MemorySettings
    run: RunSettings

    @property
    def training(self) -> TrainingSettings:
        """The settings of a trainer."""
        return TrainingSettings(self.train, self.schedule, self.mining, self.memory)

    @property
    def settings(self) -> tuple[Settings, ...]:
        """The settings of all tables."""
        return self.train, self.schedule, self.mining, self.memory, self.run

    def config(self) -> Config:
        """The plan as a configuration: explicit, and itself a valid input."""
        components = (self.method, self.backbone, self.loss, self.sampler)
        config: Config = {c.kind: {"name": c.name, **c.options} for c in components}
        config["data"] = {"name": self.data.name, "root": str(self.root), **self.data.options}
        return config | {settings.table: settings.model_dump() for settings in self.settings}

    def text(self) -> str:
        """The plan as TOML."""
        return write_config(self.config())
