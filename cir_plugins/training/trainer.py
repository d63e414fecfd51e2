"""The one training loop: mine, step, validate, checkpoint; resumable to the same bits on a CPU.

Where the work of an epoch is done, in the order of the data:

* ``mining/miner.py`` mines negatives for the triplets, in the epochs in which it is due.
* ``data/batches.py`` plans the epoch's batches and makes a batch from its plan.
* ``training/loader.py`` runs that in worker processes.
* ``training/step.py`` computes gradients and updates the weights.
* ``method.py`` gives a batch's loss terms, with the help of a loss and a sampler.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cir_plugins.config.settings import TrainingSettings
from cir_plugins.data.batches import BatchSource, epoch_plans
from cir_plugins.data.table import TrainingTable
from cir_plugins.distributed.process_group import ProcessGroup
from cir_plugins.encoding.features import Encoding, TrainingFeatures, training_features
from cir_plugins.errors import CIRError
from cir_plugins.files import disk_error, parse_json, remove_stale, write_atomically
from cir_plugins.method import Method
from cir_plugins.mining.miner import Mined, Mining, mine
from cir_plugins.seeds import mix_seed
from cir_plugins.training.checkpoint import (
    TrainingState,
    load_trained_state,
    load_training_state,
    save_state,
    trained_state,
)
from cir_plugins.training.loader import Loader
from cir_plugins.training.optim import Average, Schedule, check_state
from cir_plugins.training.step import Step
from cir_plugins.workers import worker_errors

LATEST, BEST, METRICS = "checkpoint.safetensors", "best.safetensors", "metrics.jsonl"

# A method -> measures of the validation splits and the protocol's main number.
Validate = Callable[[Method], tuple[Mapping[str, float], float]]


@dataclass
class Progress:
    """State of a training run beside the weights; it goes into the checkpoint.

    Attributes:
        epoch: Epochs finished.
        updates: Optimiser steps taken.
        best: Highest main measure so far.
        mined: Current mined negatives.
        lines: The lines of ``metrics.jsonl``.
        seconds_before: Seconds of the epochs that were trained before, by this run or by one that
            shares its warm start.
    """

    epoch: int = 0
    updates: int = 0
    best: float = -math.inf
    mined: Mined | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    seconds_before: float = 0.0


class Trainer:
    """Trains a method in a run folder.

    Args:
        method: The method, on its device.
        table: Training triplets.
        settings: Training settings.
        folder: Run folder; checkpoints and ``metrics.jsonl`` go here.
        encoding: Device, precision and loader processes.
        seed: Seed of everything drawn.
        validate: Validation, or None to keep the last epoch.
        processes: The processes that train together; the first one validates and writes.
    """

    def __init__(
        self,
        method: Method,
        table: TrainingTable,
        settings: TrainingSettings,
        folder: Path,
        encoding: Encoding,
        *,
        seed: int,
        validate: Validate | None,
        processes: ProcessGroup | None = None,
    ) -> None:
        self.method = method
        self.table = table
        self.settings = settings
        self.folder = folder
        self.encoding = encoding
        self.seed = seed
        self.validate = validate
        self.progress = Progress()
        self.processes = processes or ProcessGroup()
        with self.processes.synchronise_errors():
            self.step = Step(method, settings, encoding, seed=seed, processes=self.processes)
        self.optimizer, self.scaler = self.step.optimizer, self.step.scaler
        self.schedule: Schedule | None = None  # made when the number of steps is known
        self.average = Average(method, settings.train.ema) if settings.train.ema else None
        self.store = self._store(settings.memory.feature_cache_mb)

    def fit(self, *, resume: bool = False, shared_start: Path | None = None) -> Progress:
        """Progress after training from the start, or from the latest checkpoint.

        Args:
            resume: Go on from the latest checkpoint where there is one.
            shared_start: The checkpoint at the end of the warm start, which other runs share: where
                it is not there yet it is written, else training goes on from it.

        Raises:
            CIRError: If the loss is no longer a finite number, or the disk is full.
        """
        path = self.folder / LATEST
        self.processes.broadcast(lambda: remove_stale(self.folder))
        found = self.processes.broadcast(
            lambda: self._found(path if resume else None, shared_start)
        )
        if found is not None:
            with self.processes.synchronise_errors():
                self._load(*found)
            # A run that was cut off between its checkpoint and its log lacks the last line.
            self.processes.broadcast(self._write_log)
        loader = self._loader()
        for epoch in range(self.progress.epoch, self.settings.train.epochs):
            with worker_errors():
                self._train_epoch(epoch, loader)
            if shared_start is not None and epoch + 1 == self.settings.train.warm_start_epochs:
                self.processes.broadcast(lambda: self._keep_start(shared_start))
        return self.progress

    def _found(self, latest: Path | None, shared: Path | None) -> tuple[TrainingState, Path] | None:
        """The state that training goes on from, and its file; None to begin."""
        if latest is not None and latest.is_file():
            return load_training_state(latest), latest
        if shared is not None and shared.is_file():
            try:
                return load_training_state(shared), shared
            except CIRError as error:
                tqdm.write(f"trained again: {error}", file=sys.stderr)
        return None

    def _keep_start(self, shared: Path) -> None:
        try:
            shared.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(shared.parent, error) from error
        write_atomically(shared, (self.folder / LATEST).read_bytes())

    def _store(self, limit_mb: int) -> TrainingFeatures | None:
        self.method.eval()
        return training_features(
            self.method.backbone,
            self.table.paths,
            self.encoding,
            limit_mb,
            self.settings.train.augment,
            self.processes,
        )

    def _loader(self) -> Loader:
        source = BatchSource(
            self.table,
            self.method.backbone,
            seed=self.seed,
            known_positives=self.settings.train.known_positives,
            augmentation=self.settings.train.augment,
            with_images=self.store is None,
            text_variants=self.method.text_variants,
            caption_edit=type(self.method).caption_edit,
            processes=self.processes,
            micro_batch=self.settings.train.micro_batch,
        )
        return Loader(source, self.encoding, self.store)

    def _train_epoch(self, epoch: int, loader: Loader) -> None:
        """Mine where it is due, take a step on every batch, validate where it is due, save."""
        start = time.perf_counter()
        line: dict[str, Any] = {"epoch": epoch}
        self._mine_if_due(epoch, line)
        mined = self.progress.mined
        plans = epoch_plans(
            len(self.table.triplets),
            batch_size=self.settings.train.batch_size,
            drop_last=self.settings.train.drop_last,
            seed=self.seed,
            epoch=epoch,
            mined=self._mined(epoch),
            ambiguous=None if mined is None else mined.ambiguous,
        )
        schedule = self._schedule(epoch, len(plans))
        # Dropout and a method's own noise draw from torch's generator: seeding it per epoch makes
        # a resumed run repeat the epoch to the bit.
        torch.manual_seed(mix_seed(self.seed, epoch, 1))
        self.method.train()
        self.method.on_epoch(epoch, self.settings.train.epochs)
        sums: dict[str, float] = {}
        batches = tqdm(
            self.processes.synchronise_items(loader.epoch(plans)),
            total=len(plans),
            desc=f"epoch {epoch + 1}/{self.settings.train.epochs}",
            disable=not self.encoding.progress,
            leave=False,
        )
        for number, batch in enumerate(batches):
            line["lr"] = self.settings.train.lr * schedule.factor
            for name, value in self.step(batch, epoch, number).items():
                sums[name] = sums.get(name, 0.0) + value
            if self.average is not None:
                self.average.update(self.method)
            self.progress.updates += 1
            schedule.step()
        line["loss_terms"] = {name: total / len(plans) for name, total in sums.items()}
        line["loss"] = sum(line["loss_terms"].values())
        line["seconds"] = time.perf_counter() - start
        self.progress.epoch = epoch + 1
        self._validate_and_save(epoch, line)

    def _schedule(self, epoch: int, steps: int) -> Schedule:
        if self.schedule is None:
            self.schedule = Schedule(self.optimizer, self.settings, steps, done=epoch * steps)
        return self.schedule

    def _mine_if_due(self, epoch: int, line: dict[str, Any]) -> None:
        """A refresh in the epochs in which the settings have one."""
        settings, warm = self.settings, self.settings.train.warm_start_epochs
        if not settings.refreshes or epoch < warm:
            return
        every, first = settings.refresh, settings.first_refresh
        with_model = epoch >= first
        due = epoch == warm or (with_model and (epoch - first) % every == 0)
        if not due:
            return
        until = first if epoch < first else epoch + every
        self.progress.mined = mine(
            self.method,
            self.table,
            self.encoding,
            Mining.of(settings, self.seed),
            epoch=epoch,
            epochs=min(until, settings.train.epochs) - epoch,
            with_model=with_model,
            store=self.store,
            previous=self.progress.mined,
            processes=self.processes,
        )
        line["mining"] = dict(self.progress.mined.report)

    def _mined(self, epoch: int) -> Tensor | None:
        """The mined negatives (R, K) of an epoch, -1 for none; None where none are mined."""
        mined, mining = self.progress.mined, self.settings.mining
        if mined is None or mining.negatives == "batch":
            return None
        images = mined.epoch(epoch, mining.per_query)
        if mining.with_reference:
            references = self.table.reference_negatives(self.settings.train.known_positives)
            images = torch.cat([images, references[:, None]], dim=1)
        return images

    def _validate_and_save(self, epoch: int, line: dict[str, Any]) -> None:
        """Validation where it is due, the best weights so far, and the checkpoint."""
        last = epoch + 1 == self.settings.train.epochs
        every = self.settings.train.validate_every
        due = self.validate is not None and (last or (every and (epoch + 1) % every == 0))
        with self._averaged():
            weights = trained_state(self.method)
            validate = self.validate
            if due and validate is not None:
                measures, main = self.processes.broadcast(lambda: validate(self.method))
                line["validation"], line["main"] = dict(measures), main
            better = line.get("main", -math.inf) > self.progress.best
            keep_last = self.settings.train.select == "last" or self.validate is None
            if better or (keep_last and last):
                self.progress.best = max(self.progress.best, line.get("main", -math.inf))
                best = {"epoch": epoch, "method": weights}
                self.processes.broadcast(lambda: save_state(self.folder / BEST, best))
        self.progress.lines.append(line)
        self.processes.broadcast(self._save)

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.applied(self.method)

    def _save(self) -> None:
        mined = self.progress.mined
        state = {
            "method": trained_state(self.method),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.weights,
            "epoch": self.progress.epoch,
            "updates": self.progress.updates,
            "best": None if math.isinf(self.progress.best) else self.progress.best,
            "mined": None if mined is None else mined.state(),
            "lines": json.dumps(self.progress.lines),
        }
        save_state(self.folder / LATEST, state)
        # After the checkpoint, so that the log never holds more than can be resumed.
        self._write_log()

    def _write_log(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self.progress.lines)
        write_atomically(self.folder / METRICS, text.encode())

    def _load(self, state: TrainingState, path: Path) -> None:
        where = f"checkpoint {path}"
        load_trained_state(self.method, state.method, where)
        try:
            self.optimizer.load_state_dict(_with_tuples(state.optimizer))
            if state.scaler:
                self.scaler.load_state_dict(state.scaler)
        except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise CIRError(f"the optimiser in {where} does not fit: {error!r:.200}") from error
        check_state(self.optimizer, state.optimizer["state"], where)
        if self.average is not None:
            if state.average is None or state.average.keys() != self.average.weights.keys():
                raise CIRError(f"the averaged weights in {where} do not fit the model")
            self.average.weights = {
                name: value.to(self.encoding.device) for name, value in state.average.items()
            }
        lines = _lines(state, where)
        mined = state.mined
        self.progress = Progress(
            epoch=state.epoch,
            updates=state.updates,
            best=-math.inf if state.best is None else state.best,
            mined=None if mined is None else Mined.of_state(mined.model_dump()),
            lines=lines,
            seconds_before=sum(float(line.get("seconds", 0.0)) for line in lines),
        )


def _lines(state: TrainingState, where: str) -> list[dict[str, Any]]:
    """The log in a checkpoint.

    Raises:
        CIRError: If it is not one table for each epoch.
    """
    log = parse_json(state.lines, f"the log in {where}")
    lines = [line for line in log if isinstance(line, dict)] if isinstance(log, list) else []
    timed = all(isinstance(line.get("seconds", 0.0), (int, float)) for line in lines)
    if log != lines or len(lines) != state.epoch or not timed:
        raise CIRError(f"the log in {where} is damaged; accepted: a line for each epoch")
    return lines


def _with_tuples(state: dict[str, Any]) -> dict[str, Any]:
    """State of an optimiser, its betas as a tuple: a checkpoint holds them as a list."""
    groups = [
        {**group, **({"betas": tuple(group["betas"])} if "betas" in group else {})}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}
