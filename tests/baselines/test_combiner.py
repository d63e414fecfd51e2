from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from baselines_plugin.checkpoints.combiner import combiner_state
from baselines_plugin.parts.combiner import (
    Combiner,
    Composer,
    TwoStages,
    make_composer,
    raw_image,
    raw_size,
)
from cir_plugins import CIRError, unit
from cir_plugins.builtin.clip import TinyClip
from tests.baselines.blip_shapes import combiner as shapes_of
from tests.baselines.blip_shapes import drawn


def filled(combiner: Combiner, **weights: Any) -> Combiner:
    """The combiner with these weights, all others 0."""
    state = {key: torch.zeros_like(value) for key, value in combiner.state_dict().items()}
    state |= {key.replace("__", "."): torch.tensor(value) for key, value in weights.items()}
    combiner.load_state_dict(state)
    return combiner


def test_the_combiner_by_hand() -> None:
    """D 2, P 1, hidden 1: text comes first in the joint vector, and the share is the text's."""
    combiner = filled(
        Combiner(2, 1, 1, 0.0),
        text_projection_layer__weight=[[1.0, 0.0]],
        image_projection_layer__weight=[[0.0, 1.0]],
        combiner_layer__weight=[[1.0, 10.0]],
        output_layer__weight=[[1.0], [0.5]],
        dynamic_scalar__0__weight=[[1.0, 0.0]],
        dynamic_scalar__3__weight=[[1.0]],
    )
    image, text = torch.tensor([[5.0, 3.0]]), torch.tensor([[2.0, -1.0]])
    result = combiner.combine(image, text)
    assert result.joint.tolist() == [[2.0, 3.0]]
    share = 1 / (1 + math.exp(-2))
    assert result.share.item() == pytest.approx(share)
    assert result.mixed.tolist() == [[32.0, 16.0]]  # 2 + 10 * 3 = 32
    expected = [32 + share * 2 + (1 - share) * 5, 16 - share + (1 - share) * 3]
    assert result.query[0].tolist() == pytest.approx(expected)
    assert torch.equal(combiner(image, text), result.query)


def test_negative_projections_are_cut_off() -> None:
    combiner = filled(Combiner(1, 1, 1, 0.0), text_projection_layer__weight=[[1.0]])
    assert combiner.combine(torch.ones(1, 1), -torch.ones(1, 1)).joint.tolist() == [[0.0, 0.0]]


def test_pairs_are_combined_one_by_one() -> None:
    torch.manual_seed(0)
    combiner = Combiner(3, 4, 5, 0.5).eval()
    image, text = torch.randn(2, 3), torch.randn(4, 3)
    pairs = combiner(image[None].expand(4, 2, 3), text[:, None].expand(4, 2, 3))
    for row in range(4):
        for column in range(2):
            alone = combiner(image[column], text[row])
            assert torch.allclose(pairs[row, column], alone, atol=1e-6)


def test_dropout_is_on_in_training_only() -> None:
    torch.manual_seed(0)
    combiner = Combiner(3, 40, 50, 0.5)
    image, text = torch.randn(1, 3), torch.randn(1, 3)
    assert not torch.allclose(combiner(image, text), combiner(image, text))
    combiner.eval()
    assert torch.equal(combiner(image, text), combiner(image, text))


def test_stages_follow_epochs_and_are_saved() -> None:
    composer = Composer("both", 2, Combiner(2, 3, 4, 0.0))
    seen = []
    for epoch in range(4):
        composer.start_epoch(epoch)
        seen.append(composer.combines)
    assert seen == [False, False, True, True]
    fresh = Composer("both", 2, Combiner(2, 3, 4, 0.0))
    before = fresh.combines
    fresh.load_state_dict(composer.state_dict())
    assert (before, fresh.combines) == (False, True)
    image, text = torch.ones(1, 2), torch.full((1, 2), 2.0)
    assert torch.equal(fresh(image, text), composer(image, text))
    fresh.start_epoch(0)
    assert fresh(image, text).tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize(("stage", "combines"), [("sum", False), ("combiner", True)])
def test_a_stage_alone_stays(stage: Any, combines: bool) -> None:
    composer = Composer(stage, 1, None if stage == "sum" else Combiner(2, 3, 4, 0.0))
    for epoch in (0, 5):
        composer.start_epoch(epoch)
        assert composer.combines is combines


def test_widths_follow_the_embedding_or_options() -> None:
    backbone = TinyClip(start="random")
    composer = make_composer(backbone, "both", 1, 0, 0, 0.5)
    assert composer.combiner is not None
    size = raw_size(backbone)
    assert composer.combiner.text_projection_layer.weight.shape == (4 * size, size)
    assert composer.combiner.combiner_layer.weight.shape == (8 * size, 8 * size)
    layers = make_composer(backbone, "both", 1, 6, 7, 0.5).combiner
    assert layers is not None
    assert layers.combiner_layer.weight.shape == (7, 12)
    assert make_composer(backbone, "sum", 1, 0, 0, 0.5).combiner is None


def test_raw_size_leaves_the_backbone_unchanged() -> None:
    backbone = TinyClip(start="random")
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.train()
    assert raw_size(backbone) == 64
    assert backbone.training
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_features_are_the_raw_image_where_nothing_projects() -> None:
    features = torch.ones(2, 3)
    assert raw_image(SimpleNamespace(), features) is features
    assert raw_image(SimpleNamespace(raw_image=unit), features).norm().item() == pytest.approx(
        2**0.5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0, 0.5), "sum_epochs must be at least 1, not 0"),
        ((1, -1, 0, 0.5), "projection and hidden must be at least 0"),
        ((1, 0, 0, 1.0), r"dropout in \[0, 1\)"),
    ],
)
def test_numbers_out_of_range_are_errors(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_composer(SimpleNamespace(), "both", *arguments)


def plan_of(stage: str, sum_epochs: int, epochs: int) -> Any:
    options = {"stage": stage, "sum_epochs": sum_epochs}
    return SimpleNamespace(
        method=SimpleNamespace(options=options), train=SimpleNamespace(epochs=epochs)
    )


def test_the_combiner_needs_an_epoch() -> None:
    """A plan without an epoch for the Combiner is an error."""
    assert "sum_epochs 3 of 3 epochs leave none" in TwoStages.check_compatibility(
        plan_of("both", 3, 3)
    )
    assert TwoStages.check_compatibility(plan_of("both", 2, 3)) == ""
    assert TwoStages.check_compatibility(plan_of("sum", 3, 3)) == ""
    assert TwoStages.check_compatibility(plan_of("both", 3, 0)) == ""


def test_an_official_combiner_is_taken_key_by_key() -> None:
    state = drawn(shapes_of(2, 3, 4))
    composer = Composer("both", 1, Combiner(2, 3, 4, 0.0))
    result = combiner_state([{"epoch": 1}, {"Combiner": state}], composer)
    assert set(result) == set(composer.state_dict())
    composer.load_state_dict(result)
    assert composer.combines
    assert composer.combiner is not None
    assert torch.equal(composer.combiner.output_layer.weight, state["output_layer.weight"])


def test_unknown_keys_and_unused_entries_are_reported(tmp_path: Path) -> None:
    composer = Composer("both", 1, Combiner(2, 3, 4, 0.0))
    state = drawn(shapes_of(2, 3, 4))
    del state["output_layer.bias"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(CIRError, match=r"unexpected: extra; missing: output_layer\.bias"):
        combiner_state([{"Combiner": state}], composer)
    with pytest.raises(CIRError, match=r"no entry 'Combiner' .*they hold: epoch, CLIP"):
        combiner_state([{"epoch": 1, "CLIP": {}}], composer)
    alone = Composer("sum", 1, None)
    with pytest.raises(CIRError, match="entry 'Combiner' is not for stage 'sum'"):
        combiner_state([{"Combiner": state}], alone)
    assert combiner_state([{"CLIP": {}}], alone) == {"combining": torch.tensor(False)}
