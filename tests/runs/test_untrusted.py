from __future__ import annotations

import argparse
import os
import pickle
import random
import zipfile
from collections import OrderedDict, defaultdict
from fractions import Fraction
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cir_plugins.errors import CIRError
from cir_plugins.runs.convert import entry
from cir_plugins.runs.untrusted import Checkpoint, load_untrusted


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
    loaded = load_untrusted(tmp_path / "c.pt")
    assert torch.equal(loaded["model"]["a"], content()["model"]["a"])
    assert loaded["options"] == content()["options"]
    assert loaded["epoch"] == 3


def test_safetensors_come_through(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "c.safetensors")
    assert load_untrusted(tmp_path / "c.safetensors")["a"].tolist() == [1.0, 1.0]
    (tmp_path / "c.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(CIRError, match=r"c\.safetensors is damaged"):
        load_untrusted(tmp_path / "c.safetensors")


@pytest.mark.parametrize("how", ["zip", "legacy", "protocol0", "protocol2", "protocol4"])
def test_a_pickle_with_code_runs_nothing(tmp_path: Path, how: str) -> None:
    file_made, file = tmp_path / "file_made", tmp_path / "c.pt"
    hostile = {"model": {"a": torch.ones(1)}, "extra": RunsCode(file_made)}
    if how.startswith("protocol"):
        file.write_bytes(pickle.dumps({"extra": RunsCode(file_made)}, protocol=int(how[-1])))
    else:
        torch.save(hostile, file, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        CIRError, match=r"c\.pt (was not loaded|is damaged or no checkpoint)"
    ) as caught:
        load_untrusted(file)
    assert not file_made.exists()
    assert len(str(caught.value).splitlines()) == 1
    if how in ("zip", "legacy", "protocol2"):
        assert "it uses posix.system" in str(caught.value)
        assert "nothing in it was run" in str(caught.value)
    if how.startswith("protocol"):  # the file is a live one: an ordinary unpickler would run it
        pickle.loads(file.read_bytes())
        assert file_made.exists()


def test_objects_of_other_libraries_are_named_errors(tmp_path: Path) -> None:
    torch.save({"share": Fraction(1, 3)}, tmp_path / "c.pt")
    with pytest.raises(CIRError, match=r"it uses fractions\.Fraction, which could .* save the w"):
        load_untrusted(tmp_path / "c.pt")


def test_a_namespace_that_holds_code_is_an_error(tmp_path: Path) -> None:
    file_made = tmp_path / "file_made"
    torch.save({"options": argparse.Namespace(x=RunsCode(file_made))}, tmp_path / "c.pt")
    with pytest.raises(CIRError, match=r"it uses posix\.system"):
        load_untrusted(tmp_path / "c.pt")
    assert not file_made.exists()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CIRError, match=r"checkpoint .*gone\.pt does not exist"):
        load_untrusted(tmp_path / "gone.pt")
    with pytest.raises(CIRError, match="does not exist"):
        load_untrusted(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"plain text\n" * 9, b"\x80\x02", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_an_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(raw)
    with pytest.raises(CIRError, match=r"c\.pt is damaged or no checkpoint \(.*accepted: files"):
        load_untrusted(tmp_path / "c.pt")


def test_other_zips_and_bare_tensors_are_errors(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(CIRError, match="damaged or no checkpoint"):
        load_untrusted(tmp_path / "c.pt")
    torch.save(torch.ones(2), tmp_path / "t.pt")
    with pytest.raises(CIRError, match=r"t\.pt holds a Tensor, not a state"):
        load_untrusted(tmp_path / "t.pt")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_damaged_files_end_in_one_message(tmp_path: Path, new: bool) -> None:
    torch.save(content(), tmp_path / "c.pt", _use_new_zipfile_serialization=new)
    raw = (tmp_path / "c.pt").read_bytes()
    rng = random.Random(0)
    damaged = tmp_path / "d.pt"
    messages = []
    for turn in range(150):
        changed = bytearray(raw)
        if turn % 3 == 0:
            del changed[rng.randrange(len(raw)) :]
        else:
            for _ in range(1 + 20 * (turn % 2)):
                changed[rng.randrange(len(raw))] = rng.randrange(256)
        damaged.write_bytes(changed)
        try:
            load_untrusted(damaged)
        except CIRError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(message.startswith(f"checkpoint {damaged} ") for message in messages)
    assert not [message for message in messages if "\n" in message]


def read(tmp_path: Path, content: dict[str, Any]) -> Checkpoint:
    torch.save(content, tmp_path / "c.pt")
    loaded = load_untrusted(tmp_path / "c.pt")
    assert isinstance(loaded, Checkpoint)
    return loaded


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_harmless_types_beside_the_weights_are_read(tmp_path: Path, new: bool) -> None:
    """Trainers write the best score, a history and their folder into the same file."""
    history: defaultdict[str, list[float]] = defaultdict(list)
    history["loss"].append(0.5)
    counts: defaultdict[str, int] = defaultdict(int, {"steps": 3})
    content = {
        "model": {"w": torch.ones(2)},
        "best": np.float64(0.25),
        "score": np.float32(0.5),
        "step": np.int64(7),
        "done": np.bool_(True),
        "history": history,
        "counts": counts,
        "folder": Path("runs") / "x",
        "windows": PureWindowsPath("c:/x"),
    }
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=new)
    loaded = load_untrusted(tmp_path / "c.pt")
    assert torch.equal(loaded["model"]["w"], torch.ones(2))
    assert (loaded["best"], loaded["score"], loaded["step"]) == (0.25, 0.5, 7)
    assert loaded["done"]
    assert (loaded["history"], loaded["counts"]) == (history, counts)
    assert isinstance(loaded["folder"], PurePath)
    assert str(loaded["folder"]) == os.path.join("runs", "x")
    assert loaded["windows"] == PureWindowsPath("c:/x")


def test_harmless_types_lend_no_code(tmp_path: Path) -> None:
    file_made = tmp_path / "file_made"
    hostile: defaultdict[str, Any] = defaultdict(list)
    hostile["x"] = RunsCode(file_made)
    torch.save({"history": hostile}, tmp_path / "c.pt")
    with pytest.raises(CIRError, match=r"it uses posix\.system"):
        load_untrusted(tmp_path / "c.pt")
    assert not file_made.exists()


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_wrappers_are_removed(tmp_path: Path, prefix: str) -> None:
    state = {f"{prefix}a.w": torch.ones(1), f"{prefix}module.b": torch.zeros(1)}
    assert list(read(tmp_path, {"model": state})["model"]) == ["a.w", "module.b"]
    assert list(read(tmp_path, state)) == ["a.w", "module.b"]


def test_names_that_only_look_like_prefixes_stay(tmp_path: Path) -> None:
    state = {"module.a": torch.ones(1), "head.b": torch.ones(1), "tower._orig_mod.c": torch.ones(1)}
    assert list(read(tmp_path, {"model": state})["model"]) == ["module.a", "head.b", "tower.c"]
    options = {"module.x": 3}
    assert read(tmp_path, {"options": options, "model": state})["options"] == options


def test_a_lightning_checkpoint_is_its_state_dict(tmp_path: Path) -> None:
    lightning = {"epoch": 3, "pytorch-lightning_version": "2.4", "optimizer_states": [{}]}
    one = torch.ones(1)
    loaded = read(
        tmp_path, {**lightning, "state_dict": {"model.module.a": one, "model.module.b": one}}
    )
    assert list(loaded) == ["a", "b"]
    model = entry([loaded], "model")
    assert model is not None
    assert list(model) == ["a", "b"]
    loaded = read(tmp_path, {**lightning, "state_dict": {"CLIP.x": one, "Combiner.y": one}})
    clip = entry([loaded], "CLIP")
    assert clip is not None
    assert list(clip) == ["x"]
    assert entry([loaded], "model") is None
    assert list(loaded) == ["CLIP.x", "Combiner.y"]


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    """Torch compares no checksums: the weight would be another one."""
    path = tmp_path / "weights.pt"
    weight = torch.arange(64, dtype=torch.float32)
    torch.save({"model": {"w": weight}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 41] ^= 4
    path.write_bytes(content)
    with pytest.raises(CIRError, match=r"weights\.pt is damaged .*checksum of its member"):
        load_untrusted(path)
