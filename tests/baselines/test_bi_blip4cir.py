from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from baselines_plugin.backbones.blip import Blip, TinyBlip
from baselines_plugin.methods.bi_blip4cir import (
    BiBLIP4CIR,
    official_state,
    reverse_scores,
    tag_backward,
    tag_forward,
)
from baselines_plugin.parts.combiner import Combiner, Composer
from cir_plugins import Batch, Captions, CIRError, Components
from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.runs.convert import converted_state
from cir_plugins.runs.execute import execute
from cir_plugins.testing import check_method
from tests.baselines.blip_shapes import blip_image, blip_text, on_meta
from tests.baselines.blip_shapes import combiner as combiner_shapes
from tests.baselines.offered import plan_of
from tests.parity.cases import find_cases, folder_of_cases, read_case

SMALL = {"projection": 16, "hidden": 24}
FOUR_WAY = Captions(mode="four_way", strip=True, capitalise=True)


def method_of(**options: Any) -> BiBLIP4CIR:
    torch.manual_seed(0)
    backbone = TinyBlip(start="random", vision="frozen", dropout=0.0)
    return BiBLIP4CIR(Components(backbone, InfoNCE(), InBatch()), **{**SMALL, **options})


def batch_for(method: BiBLIP4CIR) -> Batch:
    """Three rows; two of them share a target, and one column is of no row."""
    texts = ["is red and long", "sandals", "has no sleeves"]
    side = method.backbone.preprocess.size
    tokens, back = (
        method.backbone.tokenize([caption_edit(text) for text in texts])
        for caption_edit in (tag_forward, tag_backward)
    )
    return Batch(
        images=torch.randn(6, 3, side, side, generator=torch.Generator().manual_seed(3)),
        features=None,
        reference=torch.tensor([0, 1, 2]),
        candidates=torch.tensor([3, 4, 5]),
        target=torch.tensor([0, 1, 0]),
        excluded=torch.zeros(3, 3, dtype=torch.bool),
        text=texts,
        tokens=tokens,
        text_variants={"backward": back},
    )


@pytest.mark.parametrize(
    ("caption", "tagged"),
    [
        ("is solid black", " [FORWARD] is solid black"),
        ("blue and white", " [FORWARD] blue and [FORWARD]  white"),
        ("sandals", " [FORWARD] sand [FORWARD] als"),
        ("brand", " [FORWARD] brand [FORWARD] "),
        ("And red", " [FORWARD] And red"),
        ("", " [FORWARD] "),
    ],
)
def test_every_and_gets_a_tag(caption: str, tagged: str) -> None:
    """A tag stands before every piece between the letters "and"."""
    assert tag_forward(caption) == tagged
    assert tag_backward(caption) == tagged.replace("FORWARD", "BACKWARD")


def test_tags_are_those_of_the_official_code() -> None:
    """With the four ways of joining captions."""
    folder = folder_of_cases()
    cases = [read_case(path) for path in find_cases(folder)] if folder.is_dir() else []
    rows = [
        row
        for case in cases
        if case.meta["method"] == "bi_blip4cir"
        for row in case.meta["tagging"]["rows"]
    ]
    if not rows:
        pytest.skip(f"no case of bi_blip4cir in {folder}")
    for row in rows:
        captions = row.get("captions", [row.get("caption")])
        for way, caption_edit in (("forward", tag_forward), ("backward", tag_backward)):
            tagged = row[way] if isinstance(row[way], list) else [row[way]]
            assert [caption_edit(caption) for caption in captions] == tagged
            if f"{way}_four_ways" in row:
                drawn = {
                    FOUR_WAY.draw(captions, "", 0, random.Random(seed), caption_edit)
                    for seed in range(60)
                }
                assert drawn == set(row[f"{way}_four_ways"])


def test_it_keeps_the_contract() -> None:
    for stage in ("both", "sum", "combiner"):
        torch.manual_seed(0)
        backbone = TinyBlip(start="random", vision="frozen", dropout=0.0)
        check_method(BiBLIP4CIR, backbone, options={**SMALL, "stage": stage, "dropout": 0.0})


def test_reverse_scores_by_hand() -> None:
    """(1, 0) + (0, 1) against the reference (0, 5): 1/sqrt 2; (0, -2) + (0, 1): -1."""
    composer = Composer("sum", 1, None)
    text, reference = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 5.0]])
    scores = reverse_scores(composer, text, torch.tensor([[1.0, 0.0], [0.0, -2.0]]), reference)
    assert scores.tolist() == [[pytest.approx(0.5**0.5), -1.0]]


def test_reverse_scores_equal_single_pairs() -> None:
    """The scores of a whole batch are those of each pair composed alone."""
    torch.manual_seed(0)
    composer = Composer("combiner", 1, Combiner(3, 4, 5, 0.0))
    text, candidates, reference = torch.randn(2, 3), torch.randn(4, 3), torch.randn(2, 3)
    scores = reverse_scores(composer, text, candidates, reference)
    for row in range(2):
        for column in range(4):
            query = composer(candidates[column], text[row])
            expected = F.cosine_similarity(query, reference[row], dim=0)
            assert scores[row, column].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("stage", ["sum", "combiner"])
def test_terms_are_the_two_cross_entropies(stage: Any, symmetric: bool) -> None:
    """Targets enter the reverse sum at unit length, but for ``symmetric`` and in stage 2."""
    method = method_of(
        stage=stage, symmetric=symmetric, dropout=0.0, sum_weight=0.3, combiner_weight=0.7
    )
    batch = batch_for(method)
    terms = method.loss_terms(batch)
    backbone = method.backbone
    assert batch.images is not None
    raw = backbone.raw_image(backbone.features(batch.images))
    forward, backward = (
        backbone.raw_text(tokens) for tokens in (batch.tokens, batch.text_variants["backward"])
    )
    query = F.normalize(method.composer(raw[:3], forward), dim=1)
    logits = 100 * query @ F.normalize(raw[3:], dim=1).T
    assert terms["forward"].item() == pytest.approx(
        F.cross_entropy(logits, batch.target).item(), rel=1e-4
    )
    entering = F.normalize(raw[3:], dim=1) if stage == "sum" and not symmetric else raw[3:]
    rows = []
    for row in range(3):
        pairs = method.composer(entering, backward[row].expand(3, -1))
        rows.append(100 * F.normalize(pairs, dim=1) @ F.normalize(raw[row], dim=0))
    weight = 0.3 if stage == "sum" else 0.7
    expected = weight * F.cross_entropy(torch.stack(rows), batch.target)
    assert terms["backward"].item() == pytest.approx(expected.item(), rel=1e-4)
    trained = [p for p in method.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(terms["backward"], trained, allow_unused=True)
    assert any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def test_weight_0_leaves_the_reverse_direction_out() -> None:
    method = method_of(stage="sum", sum_weight=0.0)
    assert list(method.loss_terms(batch_for(method))) == ["forward"]
    with pytest.raises(ValueError, match="must be at least 0"):
        method_of(sum_weight=-0.1)


def test_only_the_text_encoder_learns_in_stage_one() -> None:
    """The image encoder never learns, the text encoder in stage 1 alone."""
    method = method_of(sum_epochs=1)
    for epoch in (0, 1):
        method.train()
        method.on_epoch(epoch, 2)
        assert method.backbone.model.text_encoder.training is (epoch == 0)
        method.zero_grad()
        torch.autograd.backward(list(method.loss_terms(batch_for(method)).values()))
        learned = {n for n, p in method.named_parameters() if p.grad is not None}
        assert not any("vision" in name for name in learned)
        assert any(name.startswith("backbone.model.text") for name in learned) is (epoch == 0)
        assert any(name.startswith("composer") for name in learned) is (epoch == 1)


def test_rates_of_the_three_groups() -> None:
    text, projection, combiner = method_of().parameter_groups(1e-4)
    assert (text["lr"], projection["lr"], combiner["lr"]) == (1e-4, pytest.approx(1e-2), 2e-5)
    assert len(projection["params"]) == 2
    assert "constant_rate" not in text
    assert projection["constant_rate"]
    assert combiner["constant_rate"]
    assert combiner["weight_decay"] == 0
    (alone,) = method_of(stage="combiner").parameter_groups(1e-4)
    assert len(alone["params"]) == 12


def test_recipes_are_those_of_the_paper(tmp_path: Path) -> None:
    plan = plan_of("bi_blip4cir", tmp_path)
    assert plan.data.options["caption_mode"] == "four_way"
    assert (plan.method.options["sum_weight"], plan.method.options["combiner_weight"]) == (0.4, 0.5)
    train = plan.train
    assert (train.lr, train.batch_size, train.weight_decay) == (5e-5, 128, 0.05)
    assert train.epochs == 320
    assert (plan.schedule.name, plan.schedule.epochs) == ("cosine", 10)
    cirr = plan_of("bi_blip4cir", tmp_path, dataset="cirr")
    assert (cirr.method.options["sum_weight"], cirr.method.options["combiner_weight"]) == (0.1, 0.1)
    assert not cirr.data.options["strip"]
    assert not cirr.data.options["capitalise"]


def full_size() -> tuple[BiBLIP4CIR, list[dict[str, Any]]]:
    with torch.device("meta"):
        backbone = Blip(model="blip_base", weights="random", patches=False)
        method = BiBLIP4CIR(Components(backbone, InfoNCE(), InBatch()))
    text = blip_text(768, 12, 3072, 30524, 768, 256)
    image = blip_image(768, 12, 3072, 197, 16, 256)  # 224 pixels, interpolated to 384
    extras = {"temp": (), "itm_head.weight": (2, 768), "itm_head.bias": (2,)}
    extras |= {"text_decoder.x": (1,), "vision_proj_m.bias": (256,), "queue_ptr": (1,)}
    return method, [
        {"epoch": 9, "BLIPTextEncoder": on_meta(text)},
        {"model": on_meta({**image, **text, **extras})},
        {"epoch": 9, "Combiner": on_meta(combiner_shapes(256, 2560, 5120))},
    ]


def test_every_key_and_shape_of_the_full_size() -> None:
    method, checkpoints = full_size()
    state = converted_state(checkpoints, method, official_state)
    assert set(state) == set(method.state_dict())
    positions = "backbone.model.vision_model.embeddings.position_embedding"
    assert state[positions].shape == (1, 577, 768)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (0, r"no entry 'BLIPTextEncoder' .*they hold: model; epoch, Combiner"),
        (1, r"no entry 'model' \(of BLIP's model_base.pth"),
        (2, r"no entry 'Combiner' \(of combiner.pt; without one: --set method.stage=sum"),
    ],
)
def test_a_file_that_is_left_out_is_named(left_out: int, message: str) -> None:
    method, checkpoints = full_size()
    del checkpoints[left_out]
    with pytest.raises(CIRError, match=message):
        converted_state(checkpoints, method, official_state)


def test_the_tuned_text_encoder_wins() -> None:
    """The text encoder of the tuned file replaces that of the start file."""
    method, checkpoints = full_size()
    tuned = checkpoints[0]["BLIPTextEncoder"]
    tuned["text_proj.bias"] = torch.ones(256)
    state = official_state(checkpoints, method)
    assert state["backbone.model.text_proj.bias"] is tuned["text_proj.bias"]
    tuned["visual_encoder.norm.bias"] = torch.ones(768)
    with pytest.raises(
        CIRError, match="entry 'BLIPTextEncoder' holds keys of the image encoder: vision_model"
    ):
        official_state(checkpoints, method)


def test_two_stages_train_on_drawn_garments(garments_root: Path, tmp_path: Path) -> None:
    plan = plan_of(
        "bi_blip4cir",
        garments_root,
        backbone={"name": "tiny_blip", "start": "random", "vision": "frozen"},
        method={"sum_epochs": 2, "combiner_lr": 1e-3, "projection_lr_factor": 1.0, **SMALL},
        data={"categories": ("dress",)},
        train={"epochs": 4, "lr": 3e-4, "batch_size": 16, "validate_every": 0},
    )
    outcome = execute(plan, tmp_path / "run", progress=False)
    losses = [line["loss"] for line in outcome.curve]
    assert losses[1] < losses[0]
    assert losses[3] < losses[2]
    assert set(outcome.curve[0]["loss_terms"]) == {"forward", "backward"}
    assert 0 <= outcome.report["average"]["recall@10"] <= 1
