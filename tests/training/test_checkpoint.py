from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cir_plugins.encoding.checksums import Checksums
from cir_plugins.errors import CIRError
from cir_plugins.training.checkpoint import (
    FORMAT,
    load_state,
    load_trained_state,
    save_state,
    trained_state,
)


def test_nested_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state: dict[Any, Any] = {
        "weights": {"a.b": torch.randn(3, 2), "half": torch.randn(2).bfloat16()},
        "scalar": torch.tensor(4),
        "empty": {},
        "list": [1, 2.5, "x", None, True, {"deep": torch.arange(3)}],
        "tuple": (1, (torch.zeros(1), 2)),
        "mined": None,
        "loss": float("inf"),
        3: "three",
        "3": "text three",
    }
    save_state(tmp_path / "c.safetensors", state)
    back = load_state(tmp_path / "c.safetensors")
    assert list(back) == list(state)
    assert torch.equal(back["weights"]["a.b"], state["weights"]["a.b"])
    assert back["weights"]["half"].dtype == torch.bfloat16
    assert back["scalar"].item() == 4
    assert back["scalar"].shape == ()
    assert back["empty"] == {}
    assert back["list"][:5] == [1, 2.5, "x", None, True]
    assert back["list"][5]["deep"].tolist() == [0, 1, 2]
    assert back["tuple"][0] == 1
    assert back["tuple"][1][1] == 2
    assert (back["mined"], back["loss"], back[3], back["3"]) == (
        None,
        float("inf"),
        "three",
        "text three",
    )


@pytest.mark.parametrize("kind", ["adamw", "radam", "sgd"])
def test_an_optimisers_state_comes_back(tmp_path: Path, kind: str) -> None:
    """Its state is keyed by integers, which JSON would turn into text."""
    makers: dict[str, Any] = {
        "adamw": torch.optim.AdamW,
        "radam": torch.optim.RAdam,
        "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    }
    weights = [nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2, 2))]
    optimizer = makers[kind](weights, lr=0.1)
    sum(weight.pow(2).sum() for weight in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    save_state(tmp_path / "c.safetensors", optimizer.state_dict())
    back = load_state(tmp_path / "c.safetensors")
    state = optimizer.state_dict()
    assert list(back["state"]) == list(state["state"]) == [0, 1]
    for index, slots in state["state"].items():
        for name, value in slots.items():
            assert torch.equal(torch.as_tensor(back["state"][index][name]), torch.as_tensor(value))
    again = makers[kind](weights, lr=0.5)
    again.load_state_dict(back)
    assert again.param_groups[0]["lr"] == 0.1


def test_tensors_that_share_memory_are_saved_each(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_state(tmp_path / "c.safetensors", {"whole": whole, "view": whole[::2], "same": whole})
    back = load_state(tmp_path / "c.safetensors")
    assert back["view"].tolist() == [0, 2, 4]
    assert back["same"].tolist() == back["whole"].tolist() == whole.tolist()


def test_neither_tensor_nor_plain_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="state at 'a/0' is a set, neither tensor nor plain"):
        save_state(tmp_path / "c.safetensors", {"a": [{1, 2}]})
    with pytest.raises(ValueError, match="state has two tensors at 'a/b'"):
        save_state(tmp_path / "c.safetensors", {"a/b": torch.ones(1), "a": {"b": torch.ones(1)}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", range(120, 900, 8))
def test_header_lengths_never_look_like_a_pickle(tmp_path: Path, size: int) -> None:
    """A safetensors file starts with that length: one in 32 starts with a pickle's first byte."""
    path = tmp_path / "c.safetensors"
    save_state(path, {"text": "x" * size, "tensor": torch.ones(1)})
    assert load_state(path)["text"] == "x" * size


class Malicious:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, ("touch executed",))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.safetensors"
    path.write_bytes(pickle.dumps({"method": Malicious()}, protocol=protocol))
    with pytest.raises(CIRError, match="is a pickle, which could run code; accepted: safetensors"):
        load_state(path)
    torch.save({"method": Malicious()}, path)
    with pytest.raises(CIRError, match="is a pickle"):
        load_state(path)
    assert not (tmp_path / "executed").exists()


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_state(path, {"a": torch.randn(100)})
    content = path.read_bytes()
    for length in (0, 4, 20, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CIRError, match="is damaged or not a safetensors file"):
            load_state(path)
    path.write_bytes(b"PNG, perhaps" * 9)
    with pytest.raises(CIRError, match="is damaged or not a safetensors file"):
        load_state(path)
    path.unlink()
    with pytest.raises(CIRError, match="cannot be read"):
        load_state(path)


def test_a_flipped_bit_is_an_error(tmp_path: Path) -> None:
    """In each byte of weights, optimiser state, names, dtypes and numbers: it was resumed."""
    path = tmp_path / "c.safetensors"
    state = {"method": {"w": torch.randn(3)}, "optimizer": {0: torch.arange(2)}, "epoch": 3}
    save_state(path, state)
    content = path.read_bytes()
    failures = 0
    for byte in range(len(content)):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << byte % 8
        path.write_bytes(damaged)
        try:
            back = load_state(path)
        except CIRError:
            failures += 1
        else:  # of padding between the header and the tensors
            assert torch.equal(back["method"]["w"], state["method"]["w"])  # type: ignore[index]
            assert (back["optimizer"][0].tolist(), back["epoch"]) == ([0, 1], 3)
    assert failures > len(content) * 0.95


def write_by_hand(path: Path, text: str, tensors: dict[str, torch.Tensor]) -> None:
    """A checkpoint with right checksums of whatever it holds."""
    checksums = Checksums.of(text, tensors).dump()
    save_file(tensors, path, {"format": str(FORMAT), "state": text, "checksums": checksums})


def test_a_damaged_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_state(path, {"method": {"w": torch.randn(3)}, "optimizer": {0: torch.arange(2).int()}})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CIRError, match=r"c\.safetensors is damaged: the checksum .*'optimizer/0'"):
        load_state(path)


def test_metadata_that_is_no_state_is_an_error(tmp_path: Path) -> None:
    """Its checksum may be right and its content of another kind."""
    path = tmp_path / "c.safetensors"
    kinds = ('{"a": 1}', '{"$tensor": "gone"}', '{"$keys": 3, "$values": []}')
    for text in ("{", "[" * 10**5, *kinds):
        write_by_hand(path, text, {"a": torch.ones(1)})
        with pytest.raises(CIRError, match=r"checkpoint .*c\.safetensors is damaged"):
            load_state(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("member", ["method", "average"])
def test_weights_that_are_not_finite_are_errors(tmp_path: Path, member: str, value: float) -> None:
    """They were written as the best of a run; of other hands they were evaluated."""
    path = tmp_path / "c.safetensors"
    save_state(path, {"epoch": 1})
    weights = {"fine": torch.ones(2), "bad": torch.tensor([1.0, value])}
    with pytest.raises(CIRError, match=r"was not written: the weights are not finite .*: bad$"):
        save_state(path, {member: weights})
    assert load_state(path) == {"epoch": 1}
    items = '{"$keys": [["bad", "str"]], "$values": [{"$tensor": "bad"}]}'
    write_by_hand(path, f'{{"$keys": [["{member}", "str"]], "$values": [{items}]}}', weights)
    with pytest.raises(CIRError, match=r"c\.safetensors cannot be used: .* not finite .*: bad$"):
        load_state(path)


def test_finite_weights_and_masks_are_saved(tmp_path: Path) -> None:
    """A sum may overflow where no weight does; an attention mask holds minus infinity."""
    mask = torch.full((3, 3), -torch.inf).triu(1)
    weights = {"large": torch.full((4,), 3e38), "mask": mask, "none": torch.zeros(0)}
    path = tmp_path / "c.safetensors"
    save_state(path, {"method": weights, "optimizer": torch.tensor(torch.inf)})
    back = load_state(path)["method"]
    assert all(torch.equal(back[name], value) for name, value in weights.items())


def test_another_format_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"format": "99"})
    with pytest.raises(CIRError, match=f"has format 99; this version reads format {FORMAT}"):
        load_state(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(CIRError, match="has format None"):
        load_state(path)
    save_file({"a": torch.ones(1)}, path, metadata={"format": "1", "state": '{"$tensor": "a"}'})
    with pytest.raises(CIRError, match=f"has format 1; this version reads format {FORMAT}"):
        load_state(path)


class Model(nn.Module):
    """Something trained, something frozen, and buffers."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.trained = nn.Linear(width, 2)
        self.frozen = nn.Linear(width, 2).requires_grad_(False)
        self.norm = nn.BatchNorm1d(2)


def test_trained_state_holds_trained_weights_and_buffers() -> None:
    assert set(trained_state(Model())) == {
        "trained.weight",
        "trained.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }


def test_trained_state_goes_into_another_model() -> None:
    first, second = Model(), Model()
    load_trained_state(second, trained_state(first), "it")
    assert torch.equal(first.trained.weight, second.trained.weight)
    assert not torch.equal(first.frozen.weight, second.frozen.weight)
    load_trained_state(second, first.state_dict(), "it")
    assert torch.equal(first.frozen.weight, second.frozen.weight)


def test_every_key_that_does_not_fit_is_named() -> None:
    state = trained_state(Model())
    del state["norm.running_mean"]
    state["head.weight"] = torch.ones(1)
    state["trained.weight"] = torch.ones(2, 9)
    with pytest.raises(
        CIRError,
        match=r"checkpoint c does not fit the model: missing: norm.running_mean; "
        r"unexpected: head.weight; shapes: trained.weight \(2, 9\) instead of \(2, 3\)",
    ):
        load_trained_state(Model(), state, "checkpoint c")
    with pytest.raises(CIRError, match=r"missing: .*, .*, .*, .*, .* \.\.\."):
        load_trained_state(Model(), {}, "it")


def test_a_weight_of_another_dtype_is_an_error() -> None:
    """It was cast without a word."""
    state = trained_state(Model())
    state["trained.weight"] = state["trained.weight"].half()
    with pytest.raises(
        CIRError, match=r"dtypes: trained.weight torch.float16 instead of torch.float32"
    ):
        load_trained_state(Model(), state, "it")


def test_frozen_weight_of_another_shape_is_error() -> None:
    with pytest.raises(CIRError, match=r"shapes: frozen.weight \(2, 4\) instead of \(2, 3\)"):
        load_trained_state(
            Model(), {**trained_state(Model()), "frozen.weight": torch.ones(2, 4)}, "it"
        )


def test_metadata_of_a_checkpoint_is_plain_json(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "c.safetensors"
    save_state(path, {"epoch": 3, "w": torch.ones(1)})
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == str(FORMAT)
    assert json.loads(metadata["state"])["$keys"] == [["epoch", "str"], ["w", "str"]]
