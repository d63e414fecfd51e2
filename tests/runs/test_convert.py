from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from cir_plugins.runs.convert import (
    Ledger,
    check_no_doubles,
    converted_state,
    entry,
    need_entry,
    prefixed,
    write_converted,
)
from cir_plugins.runs.untrusted import Checkpoint
from cir_plugins.training.checkpoint import load_state, load_trained_state
from tests.fakes import components


def test_an_entry_is_in_any_file_or_listed() -> None:
    state = {"a": torch.ones(1)}
    files: list[dict[str, Any]] = [{"epoch": 1, "A": state}, {"B": state}]
    assert entry(files, "B") is state
    assert entry(files, "epoch") is None
    assert need_entry(files, "A", "the thing") is state
    with pytest.raises(CIRError, match=r"no entry 'C' \(the thing\) in .*hold: epoch, A; B"):
        need_entry(files, "C", "the thing")
    with pytest.raises(CIRError, match=r"they hold: k0, .* and 5 more"):
        need_entry([{f"k{n}": n for n in range(15)}], "C", "the thing")


def test_a_ledger_lists_unused_and_missing_keys() -> None:
    ledger = Ledger({key: torch.full((1,), float(n)) for n, key in enumerate("abcd")}, "it")
    assert ledger.rename(r"([ab])", r"x.\1").keys() == {"x.a", "x.b"}
    ledger.drop("c")
    with pytest.raises(CIRError, match="it does not fit; unexpected: d"):
        ledger.finish()
    tensors = ledger.take("d")
    assert tensors is not None
    assert tensors.item() == 3
    ledger.finish()
    assert ledger.take("e") is None
    with pytest.raises(CIRError, match="it does not fit; missing: e"):
        ledger.finish()
    with pytest.raises(CIRError, match="it holds values that are no tensors: x"):
        Ledger({"x": 3}, "it")  # type: ignore[dict-item]


def state_of(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def test_a_converted_state_has_the_methods_dtypes() -> None:
    method = Method(components())
    half = {key: value.half() for key, value in state_of(method).items()}
    state = converted_state([half], method, lambda files, _: dict(files[0]))
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert list(state) == list(method.state_dict())


def test_what_does_not_fit_the_method_is_listed() -> None:
    method = Method(components())
    state = state_of(method)
    state["other"] = state.pop("log_temperature")
    state["backbone.words"] = torch.ones(2, 2)
    with pytest.raises(
        CIRError,
        match=r"missing: log_temperature; unexpected: other; "
        r"shapes: backbone\.words \(2, 2\) instead of \(64, 16\)",
    ):
        converted_state([], method, lambda *_: state)


def test_written_weights_are_those_a_run_reads(tmp_path: Path) -> None:
    method, other = Method(components()), Method(components())
    state = {key: value + 1 for key, value in state_of(method).items()}
    write_converted(state, tmp_path / "best.safetensors")
    load_trained_state(other, load_state(tmp_path / "best.safetensors")["method"], "it")
    assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_prefixes() -> None:
    one = torch.ones(1)
    assert prefixed("a.", {"b": one}) == {"a.b": one}


def test_an_entry_in_two_files_is_ambiguous() -> None:
    """The first file won without a word, be it the older one."""
    state = {"a": torch.ones(1)}
    files = [Checkpoint({"A": state}, Path(name)) for name in ("one.pt", "two.pt")]
    with pytest.raises(CIRError, match=r"entry 'A' is in one\.pt and in two\.pt; accepted: the f"):
        need_entry(files, "A", "the thing")
    files_without_entries = [
        Checkpoint({"w": torch.ones(1), "epoch": 3}, Path(name)) for name in ("x.pt", "y.pt")
    ]
    with pytest.raises(CIRError, match=r"entry 'w' is in x\.pt and in y\.pt"):
        check_no_doubles(files_without_entries)
    check_no_doubles([*files, files_without_entries[0]])


def test_weights_that_are_not_numbers_are_errors() -> None:
    """A run of NaN ranks by gallery order and looks like a poor method."""
    method = Method(components())
    state = state_of(method)
    state["backbone.words"][3, 2] = torch.nan
    with pytest.raises(
        CIRError,
        match=r"the checkpoint holds NaN or infinite numbers: backbone\.words; it is of a tr",
    ):
        converted_state([], method, lambda *_: state)
