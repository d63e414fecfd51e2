"""Settings that no stored case has: what official code would give follows from the stored numbers.

Totals and gradients are linear in the weights of the terms, and the terms do not depend on them.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch

from tests.parity.cases import Case, State, differences, find_cases, folder_of_cases, read_case

FOLDER = folder_of_cases()
CASES = {str(result.relative_to(FOLDER)): read_case(result) for result in find_cases(FOLDER)}
# What images reach: methods with a trained image side, or with maps as inputs.
THROUGH = ("clip4cir", "composeae", "cosmo", "mgur", "tirg")


def weights_of(case: Case) -> list[float]:
    meta = case.meta
    result: list[float] = meta.get("loss_weights") or meta.get("settings", {}).get("loss_weights")
    return result or []


def numbers(case: Case) -> State:
    result: State = import_module(f"tests.parity.{case.meta['method']}").outputs(case)
    return {name: value.detach() for name, value in result.items()}


def changed(case: Case, **changes: Any) -> Case:
    """The case with other entries in its ``meta.json`` or, where they are there, its settings."""
    meta = deepcopy(case.meta)
    for name, value in changes.items():
        owner = meta if name in meta else meta["settings"]
        assert name in owner
        owner[name] = value
    return replace(case, meta=meta)


def follows_weights(name: str) -> bool:
    return name.endswith("total") or name.startswith("grad.")


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if weights_of(case)]
)
def test_the_total_is_linear_in_its_weights(case: Case) -> None:
    """A weight of 0, and the share of each weight in the total and in every gradient."""
    weights = weights_of(case)
    alone = [
        numbers(changed(case, loss_weights=[float(index == term) for index in range(len(weights))]))
        for term in range(len(weights))
    ]
    for result in alone:
        stored_names = {name: g for name, g in case.outputs.items() if not follows_weights(name)}
        assert differences(replace(case, outputs=stored_names), result) == []
    joined = {
        name: torch.stack([w * result[name] for w, result in zip(weights, alone, strict=True)]).sum(
            0
        )
        for name in case.outputs
        if follows_weights(name)
    }
    assert differences(replace(case, outputs={n: case.outputs[n] for n in joined}), joined) == []


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for name, case in CASES.items() if "backward_weight" in case.meta],
)
def test_without_backward_the_forward_loss_is_total(case: Case) -> None:
    """BLIP4CIR has a backward weight of 0."""
    weights = case.meta["backward_weight"]
    none = numbers(changed(case, backward_weight=dict.fromkeys(weights, 0)))
    double = numbers(changed(case, backward_weight={stage: 2 * w for stage, w in weights.items()}))
    mean = {n: (none[n] + double[n]) / 2 if follows_weights(n) else none[n] for n in case.outputs}
    assert differences(case, mean) == []
    for stage in weights:
        assert torch.equal(none[f"{stage}.loss_total"], none[f"{stage}.loss_forward"])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if "use_temp" in case.meta]
)
@pytest.mark.parametrize("stored", [True, False], ids=["temp stored", "no temp stored"])
def test_without_temperature_losses_take_raw_scores(case: Case, stored: bool) -> None:
    if not stored:
        case = replace(case, weights={k: v for k, v in case.weights.items() if k != "temp"})
    result = numbers(changed(case, use_temp=False))
    pairs = torch.stack(
        [case.outputs[name].diagonal() for name in ("scores", "scores_negative")], dim=1
    )
    assert torch.allclose(result["training_scores"], pairs, atol=1e-5)
    expected = torch.nn.functional.cross_entropy(pairs, torch.zeros(len(pairs), dtype=torch.long))
    assert result["loss_total"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert not result.get("grad.temp", torch.zeros(())).any()


@pytest.mark.parametrize("alone", ["image", "text"])
@pytest.mark.parametrize(
    "case", [pytest.param(c, id=n) for n, c in CASES.items() if c.meta["method"] == "tirg"]
)
def test_single_input_baselines_equal_the_encoders(case: Case, alone: str) -> None:
    """Query x or t; what encodes images and texts is the same in every variant."""
    encoders = ("normalization_layer.", "img_model.", "text_model.")
    weights = {key: value for key, value in case.weights.items() if key.startswith(encoders)}
    name = {"image": "imgonly", "text": "textonly"}[alone]
    result = numbers(changed(replace(case, weights=weights), model=name))
    text = case.outputs["eval.text_features"]
    expected = result["eval.image_features"] if alone == "image" else text
    assert torch.allclose(result["eval.query"], expected, rtol=1e-4, atol=1e-5)
    stored_names = (
        "eval.image_features",
        "eval.target",
        "eval.target_normalised",
        "train.target_scaled",
    )
    stored = {output: case.outputs[output] for output in stored_names if output in case.outputs}
    assert differences(replace(case, outputs=stored), result) == []
    query, target = (torch.nn.functional.normalize(v) for v in (expected, result["eval.target"]))
    assert torch.allclose(result["eval.scores"], query @ target.T, atol=1e-5)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in CASES.items() if case.weights]
)
def test_every_floating_input_has_its_gradient(case: Case) -> None:
    result = numbers(case)
    for name, value in case.inputs.items():
        if value.is_floating_point():
            gradient = result[f"grad.{name}"]
            assert gradient.shape == value.shape
            # Noise is drawn without a gradient, and frozen towers let none through.
            reached = case.meta["method"] in THROUGH and not name.startswith("noise_")
            assert bool(gradient.any()) is reached
