from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.parity.cases import (
    VARIABLE,
    Case,
    differences,
    find_cases,
    folder_of_cases,
    official_gradients,
    read_case,
    split_entries,
)

FOLDER = folder_of_cases()
FOUND = find_cases(FOLDER)


@pytest.mark.parametrize("folder", FOUND, ids=lambda folder: str(folder.relative_to(FOLDER)))
def test_our_numbers_are_those_of_the_official_code(folder: Path) -> None:
    case = read_case(folder)
    module = f"tests.parity.{case.meta['method']}"
    assert find_spec(module) is not None, f"no {module} for the case in {folder}"
    assert case.outputs, f"{folder} stores no outputs to compare with"
    problems = differences(case, import_module(module).outputs(case))
    assert not problems, "\n".join(
        [f"{len(problems)} of {len(case.outputs)} outputs differ:", *problems]
    )


def test_there_are_cases() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"no folder {FOLDER} with parity cases; {VARIABLE} names another one")
    assert FOUND, f"{FOLDER} holds no case: no meta.json below it"


def made_case(**outputs: torch.Tensor) -> Case:
    return Case(Path(), {"tolerance": {"tol": 1e-2}}, {}, {}, outputs, {})


def test_every_stored_output_is_compared_by_its_kind() -> None:
    case = made_case(a=torch.tensor([1.0, -4.0]), b=torch.tensor([3]), c=torch.tensor([True]))
    good = {"a": torch.tensor([1.03, -4.0]), "b": torch.tensor([3]), "c": torch.tensor([True])}
    assert differences(case, good) == []
    off = {"a": torch.tensor([1.05, -4.0]), "b": torch.tensor([4])}
    assert differences(case, off) == [
        "a: off by 0.05, allowed 0.04 (1.25 times)",
        "b: 1 of 1 values differ",
        "c: missing",
    ]


def test_broken_numbers_and_shapes_are_differences() -> None:
    case = made_case(a=torch.ones(2, 1), s=torch.ones(1))
    problems = differences(case, {"a": torch.ones(1, 2), "s": torch.tensor(float("nan"))})
    assert problems[0] == "a: shape (1, 2) instead of (2, 1)"
    assert problems[1].startswith("s: off by nan")
    assert differences(case, {"a": torch.ones(2, 1), "s": torch.tensor(1.0)}) == []


def test_entries_of_a_flat_file() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    result = split_entries({"A.x.weight": one, "B.y": two}, "A", "B")
    assert result == {"A": {"x.weight": one}, "B": {"y": two}}
    with pytest.raises(ValueError, match=r"B\.y belongs to none of the entries A"):
        split_entries({"A.x": one, "B.y": two}, "A")


def test_gradients_come_back_in_their_official_form() -> None:
    """Ours is [left; right] of two official rows, times 2: y = sum(ours * [1, 2, 3, 4])."""
    ours = torch.nn.Linear(4, 1, bias=False)
    total = (ours.weight * torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum()
    weights = {"left": torch.zeros(2), "right": torch.zeros(2), "ids": torch.arange(2)}

    def convert(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"weight": 2 * torch.cat([state["left"], state["right"]])[None]}

    result = official_gradients(total, ours, weights, convert)
    assert {name: g.tolist() for name, g in result.items()} == {
        "grad.left": [2.0, 4.0],
        "grad.right": [6.0, 8.0],
    }


def test_gradients_of_inputs_and_unreached_weights() -> None:
    """By hand: the sum of 2 left * x with left = [1, 3] has the gradient [2, 6] in x."""
    ours = torch.nn.Linear(2, 1, bias=False)
    weights = {"left": torch.tensor([1.0, 3.0]), "other": torch.ones(1)}
    inputs = {"x": torch.ones(2), "y": torch.ones(1), "ids": torch.arange(2)}
    for name in ("x", "y"):
        inputs[name].requires_grad_()

    def convert(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"weight": 2 * state["left"][None]}

    ours.load_state_dict(convert(weights))
    total = ours(inputs["x"]).sum()
    result = official_gradients(total, ours, weights, convert, inputs)
    assert {name: g.tolist() for name, g in result.items()} == {
        "grad.left": [2.0, 2.0],
        "grad.other": [0.0],
        "grad.x": [2.0, 6.0],
        "grad.y": [0.0],
    }
