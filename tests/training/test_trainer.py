from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.builtin.samplers import SemiHard
from cir_plugins.errors import CIRError
from cir_plugins.training.checkpoint import load_state, trained_state
from cir_plugins.training.trainer import BEST, LATEST, METRICS, Trainer
from cir_plugins.types import Batch
from dqe_plugin.sampler import TargetRelative
from tests.fakes import make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_training_lowers_loss_and_logs_every_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=6)
    progress = trainer.fit()
    log = lines(tmp_path / "run")
    assert [line["epoch"] for line in log] == list(range(6))
    assert log == progress.lines
    assert progress.updates == 6 * 4  # twenty triplets in batches of six
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[0]["loss"] == log[0]["loss_terms"]["loss"]
    assert 0 <= log[0]["main"] == log[0]["validation"]["recall@5"] <= 1
    # cosine by epochs, 0.01 at first
    assert log[0]["lr"] == pytest.approx(0.01)
    assert log[3]["lr"] == pytest.approx(0.005)


def test_small_set_is_learned_by_heart(tmp_path: Path) -> None:
    """Gradients, optimiser and evaluation work together: the training queries are found."""
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=40, validated=False, lr=0.03)
    before = _mean_rank(trainer)
    trainer.fit()
    assert _mean_rank(trainer) < min(2.0, before / 2)


def _mean_rank(trainer: Trainer) -> float:
    from cir_plugins.retrieval.evaluate import encode_split, rankings

    split = trainer.table.splits[0]
    trainer.method.eval()
    encoded = encode_split(trainer.method, split, trainer.encoding)
    orders = rankings(trainer.method, encoded, 12)
    ranks = [
        min(order.index(name) for name in query.positives) + 1
        for order, query in zip(orders, split.queries, strict=True)
    ]
    return sum(ranks) / len(ranks)


def scripted(trainer: Trainer, mains: list[float]) -> dict[int, Tensor]:
    """Weights at each validation, collected while the validations give these values."""
    seen: dict[int, Tensor] = {}

    def validate(method: Any) -> tuple[dict[str, float], float]:
        seen[len(seen)] = method.backbone.words.detach().clone()
        return {"recall@1": 0.0}, mains[len(seen) - 1]

    trainer.validate = validate
    return seen


@pytest.mark.parametrize(("select", "best_epoch"), [("best", 1), ("last", 3)])
def test_checkpoint_is_of_best_or_last_epoch(tmp_path: Path, select: str, best_epoch: int) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", select=select)
    seen = scripted(trainer, [0.2, 0.7, 0.7, 0.1])
    assert trainer.fit().best == 0.7
    best = load_state(tmp_path / "run" / BEST)
    assert best["epoch"] == best_epoch
    assert torch.equal(best["method"]["backbone.words"], seen[best_epoch])


def test_validation_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    for every, epochs in ((2, [1, 3, 4]), (0, [4])):
        trainer = make_trainer(
            tmp_path / str(every), tmp_path / "data", epochs=5, validate_every=every
        )
        trainer.fit()
        validated = [line["epoch"] for line in lines(tmp_path / str(every)) if "main" in line]
        assert validated == epochs


def test_without_validation_the_last_epoch_is_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=2, validated=False)
    trainer.fit()
    best = load_state(tmp_path / "run" / BEST)
    state = trained_state(trainer.method)
    assert all(torch.equal(best["method"][name], state[name]) for name in state)


def test_averaged_weights_are_validated_and_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=2, ema=0.9)
    seen = scripted(trainer, [0.1, 0.2])
    trainer.fit()
    assert trainer.average is not None
    averaged = trainer.average.weights["backbone.words"]
    assert torch.equal(seen[1], averaged)
    assert torch.equal(load_state(tmp_path / "run" / BEST)["method"]["backbone.words"], averaged)
    weights = trainer.method.backbone.words.detach()
    assert not torch.equal(weights, averaged)
    assert torch.equal(load_state(tmp_path / "run" / LATEST)["method"]["backbone.words"], weights)


def test_error_of_non_finite_loss_names_remedies(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data")
    with torch.no_grad():
        trainer.method.log_temperature.fill_(-1e9)
    with pytest.raises(
        CIRError, match=r"loss is not finite at epoch 0, step 0 \(loss (nan|inf)\); lower train.lr"
    ):
        trainer.fit()
    assert not (tmp_path / "run" / LATEST).exists()


def test_error_of_batch_without_negatives_names_remedies(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data")
    trainer.method.sampler = SemiHard(margin=1e-9)
    with pytest.raises(
        CIRError, match=r"no row of the batch has a negative(?s:.)*accepted: a larg"
    ):
        trainer.fit()


@pytest.mark.parametrize(
    ("epochs", "every", "since", "mined", "random"),
    [
        (6, 0, -1, [0, 1, 2, 3, 4, 5], [0]),
        (6, 2, -1, [0, 2, 4], [0]),
        (6, 3, 1, [0, 1, 4], [0]),
        (5, 2, 0, [0, 2, 4], []),
        (4, 9, -1, [0], [0]),
        (12, 0, -1, [0, 2, 4, 6, 8, 10], [0]),
    ],
)
def test_mining_comes_when_it_is_due(
    tmp_path: Path, epochs: int, every: int, since: int, mined: list[int], random: list[int]
) -> None:
    trainer = make_trainer(
        tmp_path / "run",
        tmp_path / "data",
        method="dqe",
        epochs=epochs,
        mining={"every": every, "start": since},
        validated=False,
    )
    trainer.fit()
    log = lines(tmp_path / "run")
    assert [line["epoch"] for line in log if "mining" in line] == mined
    reports = {line["epoch"]: line["mining"] for line in log if "mining" in line}
    at_random = [epoch for epoch, report in reports.items() if "score_gap" not in report]
    assert at_random == random
    assert set(log[0]["loss_terms"]) == {"loss", "margin", "attribute"}


def test_warm_start_is_contrastive_on_the_methods_own_query(tmp_path: Path) -> None:
    """Terms, mining and weights of the first epochs are those of in-batch InfoNCE alone."""
    runs = {}
    for name, epochs, share in (("both", 4, 0.5), ("warm", 2, 1.0)):
        trainer = make_trainer(
            tmp_path / name,
            tmp_path / "data",
            method="dqe",
            epochs=epochs,
            warm_start=share,
            mining={"every": 1},
            select="last",
            validate_every=0,
            schedule={"name": "constant"},
        )
        trainer.fit()
        runs[name] = lines(tmp_path / name)
    terms = [set(line["loss_terms"]) for line in runs["both"]]
    assert terms == [{"warm_start"}] * 2 + [{"loss", "margin", "attribute"}] * 2
    assert ["mining" in line for line in runs["both"]] == [False, False, True, True]
    assert all("score_gap" in line["mining"] for line in runs["both"][2:])
    assert [line["loss"] for line in runs["both"][:2]] == [line["loss"] for line in runs["warm"]]


@pytest.mark.parametrize(
    ("restart", "name", "epochs"), [(0.5, "cosine", 2), (0.0, "cosine", 4), (0.5, "constant", 4)]
)
def test_a_restart_begins_with_a_new_optimiser(
    tmp_path: Path, restart: float, name: str, epochs: int
) -> None:
    """With the moments of the warm start's loss what came after it moved weights little."""
    trainer = make_trainer(
        tmp_path / "run",
        tmp_path / "data",
        epochs=4,
        warm_start=0.5,
        schedule={"name": name, "restart": restart},
    )
    trainer.fit()
    steps = {int(state["step"]) for state in trainer.optimizer.state.values()}
    assert steps == {trainer.progress.updates * epochs // 4}


def stopping(trainer: Trainer, update: int) -> Callable[..., dict[str, float]]:
    """The trainer's step, interrupted at an update."""
    step = trainer.step

    def stopped(*arguments: Any) -> dict[str, float]:
        if trainer.progress.updates == update:
            raise KeyboardInterrupt
        return step(*arguments)

    return stopped


def test_a_run_cut_off_where_it_restarts_goes_on_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the warm start, and in the middle of the epoch behind it."""
    weights = []
    for name, stops in (("whole", []), ("cut", [8, 10])):  # updates; four an epoch
        for stop in [*stops, -1]:
            trainer = make_trainer(
                tmp_path / name,
                tmp_path / "data",
                epochs=4,
                warm_start=0.5,
                schedule={"restart": 0.5},
            )
            monkeypatch.setattr(trainer, "step", stopping(trainer, stop))
            with nullcontext() if stop < 0 else pytest.raises(KeyboardInterrupt):
                trainer.fit(resume=True)
        weights.append(trained_state(trainer.method))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_ambiguous_images_are_no_negatives_in_a_batch(tmp_path: Path) -> None:
    """Above the target or within the first half below it, by the scores of the refresh."""
    trainer = make_trainer(
        tmp_path / "run",
        tmp_path / "data",
        epochs=3,
        known_positives="target",
        warm_start=0.33,
        mining={"filter": "corpus", "every": 1},
        sampler=TargetRelative(lower=0.5, upper=1.0),
    )
    seen: list[tuple[Batch, Tensor]] = []
    negatives = trainer.method.negatives

    def record(scores: Tensor, batch: Batch) -> Tensor:
        seen.append((batch, negatives(scores, batch)))
        return seen[-1][1]

    trainer.method.negatives = record  # type: ignore[method-assign]
    trainer.fit()
    reports = [line["mining"] for line in lines(tmp_path / "run") if "mining" in line]
    assert [report["ambiguous"]["mean"] > 1 for report in reports] == [True, True]
    assert all(0 < report["ambiguous"]["covered"] < 1 for report in reports)
    last = trainer.progress.mined
    assert last is not None
    assert last.ambiguous is not None
    for batch, mask in seen[len(seen) // 2 :]:
        assert batch.triplet_index is not None
        images = [trainer.table.triplets[i].target for i in batch.triplet_index.tolist()]
        columns = list(dict.fromkeys(images))
        for row, triplet in enumerate(batch.triplet_index.tolist()):
            never = {*last.ambiguous[triplet].tolist(), images[row]}
            assert mask[row].tolist() == [image not in never for image in columns]


def test_the_reference_is_one_more_negative(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path / "run",
        tmp_path / "data",
        method="dqe",
        epochs=1,
        mining={"with_reference": True, "start": 0},
    )
    seen: list[Batch] = []
    terms = trainer.method.loss_terms

    def record(batch: Batch) -> dict[str, Tensor]:
        seen.append(batch)
        return terms(batch)

    trainer.method.loss_terms = record  # type: ignore[method-assign]
    trainer.fit()
    for batch in seen:
        assert batch.triplet_index is not None
        assert batch.mined is not None
        for row, number in enumerate(batch.triplet_index.tolist()):
            triplet = trainer.table.triplets[number]
            known = triplet.reference in (*triplet.positives, triplet.target)
            column = batch.candidates.tolist().index(int(batch.reference[row]))
            assert bool(batch.mined[row, column]) is not known


def test_no_negative_comes_twice_between_refreshes(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path / "run",
        tmp_path / "data",
        method="dqe",
        epochs=4,
        mining={"every": 4, "per_query": 2},
    )
    trainer.fit()
    mined = trainer.progress.mined
    assert mined is not None
    assert mined.images.shape == (20, 8)
    for row in mined.images.tolist():
        assert len(set(row)) == 8
    # twelve images less the target and another positive: one image of ten in each row stays out


def test_cached_features_change_nothing(tmp_path: Path) -> None:
    """A frozen tower's features may be computed once or in every step."""
    weights = []
    for cache in (64, 0):
        trainer = make_trainer(
            tmp_path / str(cache), tmp_path / "data", epochs=2, backbone={"frozen": True}
        )
        if not cache:
            trainer.store = None
        assert (trainer.store is not None) == bool(cache)
        trainer.fit()
        weights.append(trainer.method.backbone.words.detach())
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_augmented_images_are_not_cached(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path / "run", tmp_path / "data", backbone={"frozen": True}, augment="flip"
    )
    assert trainer.store is None


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_lower_precisions_run_on_a_cpu(tmp_path: Path, precision: torch.dtype) -> None:
    trainer = make_trainer(tmp_path / "run", tmp_path / "data", epochs=3, clip=1.0)
    lower = Trainer(
        trainer.method,
        trainer.table,
        trainer.settings,
        trainer.folder,
        type(trainer.encoding)(torch.device("cpu"), precision, progress=False),
        seed=3,
        validate=trainer.validate,
    )
    assert lower.scaler.is_enabled() == (precision == torch.float16)
    before = lower.method.backbone.words.detach().clone()
    losses = [line["loss"] for line in lower.fit().lines]
    assert all(0 < loss < 10 for loss in losses)
    assert not torch.equal(before, lower.method.backbone.words)
    assert lower.method.backbone.words.dtype == torch.float32


def test_gradients_are_clipped(tmp_path: Path) -> None:
    """Under plain SGD a step is the clipped gradient times the rate."""
    trainer = make_trainer(
        tmp_path / "run",
        tmp_path / "data",
        epochs=1,
        batch_size=20,
        clip=0.25,
        optimizer="sgd",
        schedule={"name": "constant"},
        weight_decay=0.0,
        lr=1.0,
    )
    before = {name: value.clone() for name, value in trained_state(trainer.method).items()}
    trainer.fit()
    after = trained_state(trainer.method)
    norm = sum((after[name] - before[name]).pow(2).sum() for name in before) ** 0.5
    assert float(norm) == pytest.approx(0.25, rel=1e-3)
