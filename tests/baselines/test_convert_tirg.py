"""``cir convert`` of TIRG's and ComposeAE's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from baselines_plugin.methods.composeae import official_state
from baselines_plugin.methods.tirg import official_state as tirg_state
from cir_plugins import CIRError
from cir_plugins.config.toml import read_config
from cir_plugins.training.checkpoint import load_state
from cir_plugins.training.trainer import BEST
from tests.baselines.official_shapes import layer, norm, tirg_encoders
from tests.baselines.test_composeae import released
from tests.baselines.test_composeae import small as composeae
from tests.baselines.test_tirg import small as tirg
from tests.command import Call

TEXTS = "replace red with blue\nReplace blue, with GREEN\n"
WORDS = ["blue", "green", "red", "replace", "with"]


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    torch.manual_seed(0)
    return {key: torch.randn(shape) for key, shape in shapes.items()}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The baseline of the text alone, which has the fewest weights, and its training texts."""
    state = drawn(tirg_encoders(1 + len(WORDS), 512))
    torch.save({"it": 3, "model_state_dict": state}, tmp_path / "checkpoint.pth")
    (tmp_path / "texts.txt").write_text(TEXTS)
    return [tmp_path / "checkpoint.pth", tmp_path / "texts.txt"]


def test_tirg_is_converted_with_its_training_texts(
    cir: Call, files: list[Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = cir("convert", "tirg", *files, "--out", run, "--set", "method.variant=text_only")
    assert (result.code, result.err) == (0, "")
    assert read_config(run / "config.toml")["backbone"]["vocabulary"] == WORDS
    source = torch.load(files[0])["model_state_dict"]["text_model.embedding_layer.weight"]
    state = load_state(run / BEST)["method"]
    assert torch.equal(state["backbone.text.embedding.weight"], source)


@pytest.mark.parametrize(("source", "variant"), [("complex", "real"), ("real", "complex")])
def test_composeaes_other_variant_is_reported(source: str, variant: str) -> None:
    """The recipe for FashionIQ is the real variant, whatever the checkpoint is of."""
    checkpoint = {"model_state_dict": {key: torch.empty(0) for key in released(source)}}
    with pytest.raises(CIRError) as caught:
        official_state([checkpoint], composeae(variant=variant))
    assert str(caught.value) == (
        f"the checkpoint is of variant '{source}', not '{variant}'; "
        f"accepted: --set method.variant={source}"
    )


@pytest.mark.parametrize(
    ("source", "shapes"),
    [
        ("tirg", norm("gated_feature_composer.1", 6)),
        ("lastconv", norm("mod2d.0", 6)),
        ("concat", layer("composer.m.2", 6, 6)),
    ],
)
def test_tirgs_other_variant_is_reported(source: str, shapes: Any) -> None:
    for variant in {"tirg", "lastconv", "concat", "image_only"} - {source}:
        with pytest.raises(CIRError, match=f"accepted: --set method.variant={source}$"):
            tirg_state([{"model_state_dict": drawn(shapes)}], tirg(variant=variant))
