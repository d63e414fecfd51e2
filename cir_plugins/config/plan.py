"""What a command will do: every name and option checked, every default filled in, nothing built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
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
from cir_plugins.plugins.guard import guarded, message_of
from cir_plugins.plugins.registry import Kind


@dataclass(frozen=True)
class PlannedComponent:
    """A component whose name and options have been checked.

    Attributes:
        kind: What it is.
        name: Its name.
        factory: Class or function that builds it.
        options: Every option with its value, defaults included.
        plugin: Name of the plugin that offers it.
    """

    kind: Kind
    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any]
    plugin: str

    def build(self, *arguments: Any, **changed: Any) -> Any:
        """The component.

        Args:
            arguments: What its factory takes beside options.
            changed: Options in place of the planned ones.

        Raises:
            CIRError: If the factory raises anything; names the component and, unless it is a
                ``ValueError`` for an option, its plugin.
        """
        with self.guarded("cannot be built"):
            try:
                return self.factory(*arguments, **{**self.options, **changed})
            except ValueError as error:
                raise CIRError(f"{self.kind} '{self.name}': {message_of(error)}") from error

    def guarded(self, what: str) -> AbstractContextManager[None]:
        """A context in which whatever the component raises is an error that names it.

        Args:
            what: What cannot be done, such as ``cannot be built``.
        """
        return guarded(f"{self.kind} '{self.name}' of plugin '{self.plugin}' {what}")


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
