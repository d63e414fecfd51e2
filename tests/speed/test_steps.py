"""The benchmarks of steps, start-up and the GPU, at a size without meaning for speed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.places import ROOT

SPEED = ROOT / "benchmarks" / "speed"


def lines_of(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[dict[str, Any]]:
    """Lines that a script prints."""
    monkeypatch.syspath_prepend(str(SPEED))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(name).main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_host_step_has_the_losses_of_the_handwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = lines_of(
        "host_overhead", monkeypatch, capsys, "--cases", "tiny", "--batch", "3", "--runs", "3"
    )
    assert line["same_loss"]
    assert line["runs"] == 3
    assert line["ratio"] == pytest.approx(line["host_s"] / line["by_hand_s"], rel=0.02)


def test_comparison_of_losses_detects_another_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SPEED))
    module = importlib.import_module("host_overhead")
    plain = module.by_hand

    def faster(method: Any, batch: Any, settings: Any) -> Any:
        return plain(method, batch, type(settings)(lr=0.01, weight_decay=settings.weight_decay))

    monkeypatch.setattr(module, "by_hand", faster)
    arguments = ("--cases", "tiny", "--batch", "3", "--runs", "3")
    (line,) = lines_of("host_overhead", monkeypatch, capsys, *arguments)
    assert not line["same_loss"]


def test_cached_step_counts_omitted_operations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--cases", "tiny", "--batches", "2", "3", "--runs", "1", "--fused")
    lines = lines_of("cached_step", monkeypatch, capsys, *arguments)
    assert [line["batch"] for line in lines] == [2, 3]
    for line in lines:
        flops = line["flops"]
        assert flops["plain"] > flops["cached"] > 0
        assert line["ratio_of_flops"] == pytest.approx(flops["plain"] / flops["cached"], abs=0.01)
        stages = ["read", "features", "queries", "targets", "backward", "update"]
        assert list(line["cached_stages_s"]) == stages
        assert sum(line["cached_stages_s"].values()) <= line["cached_s"] * 1.001
    # The tower's operations grow with the images, the others with the rows.
    per_row = [(line["flops"]["plain"] - line["flops"]["cached"]) / line["batch"] for line in lines]
    assert per_row[0] == per_row[1]


def test_operations_are_counted_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.syspath_prepend(str(SPEED))
    operations = importlib.import_module("cached_step").operations
    layer = torch.nn.Linear(5, 7, bias=False)
    rows = torch.zeros(3, 5)

    def step() -> None:
        layer(rows).sum().backward()

    # The product, and that of the weights' gradient; the rows need no gradient.
    assert operations(step) == 2 * (2 * 3 * 5 * 7)


def test_startup_times_cases_against_both_opponents(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of("startup", monkeypatch, capsys, "--runs", "1")
    cases = ("cir --help", "cir list", "import cir_plugins", "import dqe_plugin.sampler")
    assert [line["case"] for line in lines] == [f"startup {case}" for case in cases]
    for line in lines:
        assert line["ratio_to_python"] == pytest.approx(
            line["seconds"] / line["opponents_s"]["python"], rel=0.02
        )
    sampler = lines[-1]
    assert sampler["seconds"] > lines[2]["seconds"]  # it imports torch, the package alone does not


def gpu(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(SPEED / "gpu.py"), "--size", "tiny", "--device", "cpu"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_gpu_variant_reports_samples_and_share_of_peak() -> None:
    lines = gpu("--cases", "mining", "step", "--peak-bf16", "2", "--peak-fp32", "3")
    assert [line["case"] for line in lines] == ["mining"] * 2 + ["cached_step tiny"] * 2
    assert [line.get("step") for line in lines[2:]] == ["plain", "cached"]
    for line, peak in zip(lines, (3, 3, 2, 2), strict=True):
        assert line["peak_tflops"] == peak
        assert line["share_of_peak"] == pytest.approx(line["tflops"] / peak, abs=1e-4)
    for line in lines[2:]:
        assert line["dtype"] == "bf16"
        duration = line[f"{line['step']}_s"]
        assert line["samples_per_s"] == pytest.approx(line["batch"] / duration, rel=0.01)
        rate = line["flops"][line["step"]] / duration / 1e12
        assert line["tflops"] == pytest.approx(rate, abs=1e-4)


def test_gpu_variant_evaluates() -> None:
    (line,) = gpu("--cases", "evaluation")
    assert line["case"] == "evaluation"
    assert line["peak_tflops"] is None
    assert line["share_of_peak"] is None


def test_cards_are_known_by_their_device_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SPEED))
    peak_of = importlib.import_module("gpu").peak_of
    assert peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989
    assert peak_of("NVIDIA H100 PCIe", "bf16") == 756
    assert peak_of("NVIDIA L40S", "bf16") == 362
    assert peak_of("NVIDIA L4", "fp32") == 30.3
    assert peak_of("", "bf16") is None


def test_gpu_variant_needs_a_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, str(SPEED / "gpu.py")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no CUDA device here; --device cpu tries the script out" in done.stderr
