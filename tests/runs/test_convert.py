from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cir_plugins.training.checkpoint import load_state, load_trained_state
from cir_plugins.runs.convert import Ledger, converted_state, entry, load_untrusted, need_entry, prefixed, write_converted
from cir_plugins.errors import CIRError
from cir_plugins.method import Method
from tests.fakes import components


class RunsCode:
    """Pickles to a call that would create a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch '{self.file}'",))


def content() -> dict[str, Any]:
    return {
        "epoch": 3,
        "model": OrderedDict(a=torch.arange(6.0).view(2, 3), b=torch.ones(2).half()),
        "options": argparse.Namespace(lr=0.1, names=["x"], nested={"deep": (1, 2)}),
    }


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_tensors_plain_values_and_a_namespace_come_through(tmp_path: Path, new: bool) -> None:
    torch.save(content(), tmp_path / "c.pt", _use_new_zipfile_serialization=new)
    found = load_untrusted(tmp_path / "c.pt")
    assert torch.equal(found["model"]["a"], content()["model"]["a"])
    assert found["options"] == content()["options"]
    assert found["epoch"] == 3


def test_safetensors_come_through(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "c.safetensors")
    assert load_untrusted(tmp_path / "c.safetensors")["a"].tolist() == [1.0, 1.0]
    (tmp_path / "c.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(CIRError, match=r"c\.safetensors is damaged"):
        load_untrusted(tmp_path / "c.safetensors")


@pytest.mark.parametrize("how", ["zip", "legacy", "protocol0", "protocol2", "protocol4"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, how: str) -> None:
    made, file = tmp_path / "made", tmp_path / "c.pt"
    hostile = {"model": {"a": torch.ones(1)}, "extra": RunsCode(made)}
    if how.startswith("protocol"):
        file.write_bytes(pickle.dumps({"extra": RunsCode(made)}, protocol=int(how[-1])))
    else:
        torch.save(hostile, file, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CIRError, match=r"c\.pt is (refused|damaged or no checkpoint)") as caught:
        load_untrusted(file)
    assert not made.exists()
    assert len(str(caught.value).splitlines()) == 1
    if how in ("zip", "legacy", "protocol2"):
        assert "it names posix.system" in str(caught.value)
        assert "nothing in it was run" in str(caught.value)
    if how.startswith("protocol"):  # the file is a live one: an ordinary unpickler would run it
        pickle.loads(file.read_bytes())
        assert made.exists()


def test_objects_of_other_libraries_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"path": Path("x")}, tmp_path / "c.pt")
    with pytest.raises(CIRError, match=r"it names pathlib\.[\w.]+, which could run code"):
        load_untrusted(tmp_path / "c.pt")


def test_a_namespace_that_holds_code_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"options": argparse.Namespace(x=RunsCode(made))}, tmp_path / "c.pt")
    with pytest.raises(CIRError, match=r"it names posix\.system"):
        load_untrusted(tmp_path / "c.pt")
    assert not made.exists()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"checkpoint .*gone\.pt does not exist"):
        load_untrusted(tmp_path / "gone.pt")
    with pytest.raises(CIRError, match="does not exist"):
        load_untrusted(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"plain text\n" * 9, b"\x80\x02", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_told(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(raw)
    with pytest.raises(CIRError, match=r"c\.pt is damaged or no checkpoint \(.*accepted: files"):
        load_untrusted(tmp_path / "c.pt")


def test_a_zip_of_something_else_and_a_bare_tensor_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(CIRError, match="damaged or no checkpoint"):
        load_untrusted(tmp_path / "c.pt")
    torch.save(torch.ones(2), tmp_path / "t.pt")
    with pytest.raises(CIRError, match=r"t\.pt holds a Tensor, not a state"):
        load_untrusted(tmp_path / "t.pt")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_damaged_files_end_in_one_message_whatever_the_damage(tmp_path: Path, new: bool) -> None:
    torch.save(content(), tmp_path / "c.pt", _use_new_zipfile_serialization=new)
    raw = (tmp_path / "c.pt").read_bytes()
    chance = random.Random(0)
    damaged = tmp_path / "d.pt"
    told = []
    for turn in range(150):
        changed = bytearray(raw)
        if turn % 3 == 0:
            del changed[chance.randrange(len(raw)) :]
        else:
            for _ in range(1 + 20 * (turn % 2)):
                changed[chance.randrange(len(raw))] = chance.randrange(256)
        damaged.write_bytes(changed)
        try:
            load_untrusted(damaged)
        except CIRError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all(message.startswith(f"checkpoint {damaged} ") for message in told)
    assert not [message for message in told if "\n" in message]


def test_an_entry_is_found_in_any_file_or_what_is_there_is_listed() -> None:
    state = {"a": torch.ones(1)}
    files: list[dict[str, Any]] = [{"epoch": 1, "A": state}, {"B": state}]
    assert entry(files, "B") is state
    assert entry(files, "epoch") is None
    assert need_entry(files, "A", "the thing") is state
    with pytest.raises(CIRError, match=r"no entry 'C' \(the thing\) in .*hold: epoch, A; B"):
        need_entry(files, "C", "the thing")
    with pytest.raises(CIRError, match=r"they hold: k0, .* and 5 more"):
        need_entry([{f"k{n}": n for n in range(15)}], "C", "the thing")


def test_a_ledger_knows_what_is_left_and_what_was_not_there() -> None:
    ledger = Ledger({key: torch.full((1,), float(n)) for n, key in enumerate("abcd")}, "it")
    assert ledger.rename(r"([ab])", r"x.\1").keys() == {"x.a", "x.b"}
    ledger.drop("c")
    with pytest.raises(CIRError, match="it does not fit; unexpected: d"):
        ledger.finish()
    taken = ledger.take("d")
    assert taken is not None
    assert taken.item() == 3
    ledger.finish()
    assert ledger.take("e") is None
    with pytest.raises(CIRError, match="it does not fit; missing: e"):
        ledger.finish()
    with pytest.raises(CIRError, match="it holds values that are no tensors: x"):
        Ledger({"x": 3}, "it")  # type: ignore[dict-item]


def state_of(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


def test_a_converted_state_is_whole_and_of_the_methods_kind_of_number() -> None:
    method = Method(components())
    half = {key: value.half() for key, value in state_of(method).items()}
    found = converted_state([half], method, lambda files, _: dict(files[0]))
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert list(found) == list(method.state_dict())


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
