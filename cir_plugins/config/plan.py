"""What a command will do: every name and option checked, every default filled in, nothing built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cir_plugins.config.settings import RunSettings, TrainSettings
from cir_plugins.config.toml import Config, write_config
from cir_plugins.errors import CIRError
from cir_plugins.plugins.registry import Kind


@dataclass(frozen=True)
class PlannedComponent:
    """A part whose name and options are known to be good.

    Attributes:
        kind: What it is.
        name: Its name.
        factory: What builds it.
        options: Every option with its value, defaults included.
    """

    kind: Kind
    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any]

    def build(self) -> Any:
        """The part.

        Raises:
            CIRError: If the factory refuses a value.
        """
        try:
            return self.factory(**self.options)
        except ValueError as error:
            raise CIRError(f"{self.kind} '{self.name}': {error}") from error


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know.

    Attributes:
        method: The method; its factory still wants ``Components``.
        backbone: The backbone.
        loss: The loss.
        sampler: The sampler.
        data: The reader.
        root: Folder of the data set.
        train: Training settings.
        run: Where and how to run.
    """

    method: PlannedComponent
    backbone: PlannedComponent
    loss: PlannedComponent
    sampler: PlannedComponent
    data: PlannedComponent
    root: Path
    train: TrainSettings
    run: RunSettings

    def config(self) -> Config:
        """The plan as tables: explicit, and itself a valid input."""
        parts = (self.method, self.backbone, self.loss, self.sampler)
        tables: Config = {part.kind: {"name": part.name, **part.options} for part in parts}
        tables["data"] = {"name": self.data.name, "root": str(self.root), **self.data.options}
        tables["train"] = asdict(self.train)
        tables["run"] = asdict(self.run)
        return tables

    def text(self) -> str:
        """The plan as TOML."""
        return write_config(self.config())
