"""Our numbers for CLIP4Cir."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from baselines_plugin.checkpoints.combiner import combiner_state
from baselines_plugin.methods.clip4cir import CLIP4Cir, official_state
from baselines_plugin.parts.combiner import Combined, Combiner, Composer
from cir_plugins import Batch, unit
from cir_plugins.builtin.clip import Clip
from cir_plugins.builtin.losses import InfoNCE
from tests.fakes import components
from tests.parity.cases import Case, State, load_official, official_gradients, split_entries


def outputs(case: Case) -> State:
    if any(key.startswith("CLIP.") for key in case.weights):
        return two_stages(case)
    return combiner_alone(case)


def logits_of(query: Tensor, target: Tensor, scale: float) -> tuple[Tensor, State]:
    """Logits, and what a case stores of a query and its target under names without a stage."""
    scores = query @ target.T
    return scale * scores, {"query": query, "target": target, "scores": scores}


def described(combined: Combined) -> State:
    return {
        "joint": combined.joint,
        "dynamic_scalar": combined.share,
        "mixed": combined.mixed,
        "query_unnormalised": combined.query,
    }


def everything_negative(scores: Tensor) -> tuple[Tensor, Tensor]:
    target = torch.arange(len(scores))
    return target, ~torch.eye(len(scores), dtype=torch.bool)


def combiner_alone(case: Case) -> State:
    sizes = case.meta["settings"]
    combiner = Combiner(
        sizes["feature_dim"], sizes["projection_dim"], sizes["hidden_dim"], dropout=0.0
    )
    composer = Composer("combiner", 1, combiner)
    entries = [split_entries(case.weights, "Combiner")]
    composer.load_state_dict(combiner_state(entries, composer))
    image, text, target = (
        case.inputs[name] for name in ("reference_features", "text_features", "target_features")
    )
    result = combiner.combine(image, text)
    logits, stored = logits_of(unit(result.query), unit(target), sizes["logit_scale"])
    total = InfoNCE()(logits, *everything_negative(logits)).mean()
    gradients = official_gradients(
        total,
        composer,
        case.weights,
        lambda state: combiner_state([split_entries(state, "Combiner")], composer),
        case.inputs,
    )
    stored |= described(result) | {"logits": logits}
    return {f"eval.{name}": value for name, value in stored.items()} | {
        "loss.total": total,
        **gradients,
    }


def clip_backbone(sizes: Mapping[str, Any]) -> Clip:
    """CLIP of random weights with the case's dimensions, built from a folder."""
    vision = {
        "layers": sizes["vision_layers"],
        "width": sizes["vision_width"],
        "image_size": sizes["image_size"],
        "head_width": 64,
    }
    if sizes.get("vision_patch_size"):
        vision["patch_size"] = sizes["vision_patch_size"]
    text = {
        "context_length": sizes["context_length"],
        "vocab_size": sizes["vocab_size"],
        "width": sizes["text_width"],
        "heads": sizes["text_heads"],
        "layers": sizes["text_layers"],
    }
    config = {"embed_dim": sizes["feature_dim"], "quick_gelu": True}
    config |= {"vision_cfg": vision, "text_cfg": text}
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [f"w{number}" for number in range(sizes["vocab_size"] - len(specials))]
    with TemporaryDirectory() as folder:
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        (Path(folder) / "vocab.txt").write_text("\n".join(specials + words))
        return Clip(model=folder, pretrained="random")


def two_stages(case: Case) -> State:
    sizes = case.meta["settings"]
    method = CLIP4Cir(
        components(clip_backbone(sizes)),
        projection=sizes["projection_dim"],
        hidden=sizes["hidden_dim"],
        dropout=0.0,
        temperature=1 / sizes["logit_scale"],
    )
    load_official(method, [split_entries(case.weights, "CLIP", "Combiner")], official_state)
    method.train()
    clip = method.backbone
    tokens = {"ids": case.inputs["token_ids"]}
    image = clip.features(case.inputs["reference_image"])
    result = {
        "eval.reference_features": image,
        "eval.text_features": clip.raw_text(tokens),
        "eval.target_features": clip.features(case.inputs["target_image"]),
    }
    if "eval.visual_layer4_map" in case.outputs:
        result["eval.visual_layer4_map"] = layer4_map(clip, case.inputs["reference_image"])
    text = result["eval.text_features"]
    assert method.composer.combiner is not None
    combined = method.composer.combiner.combine(image, text)
    result["stage1.query_unnormalised"] = image + text
    result |= {f"stage2.{name}": value for name, value in described(combined).items()}
    for stage in (1, 2):
        method.composer.start_epoch(0 if stage == 1 else method.composer.sum_epochs)
        query = method.encode_query(image, tokens)
        target = method.encode_gallery(result["eval.target_features"])
        logits, stored = logits_of(query, target, sizes["logit_scale"])
        (loss,) = method.loss_terms(batch_of(case)).values()
        result |= {f"stage{stage}.{name}": value for name, value in stored.items()}
        result |= {f"stage{stage}.logits": logits, f"loss.stage{stage}": loss}
        gradients = official_gradients(
            loss, method, case.weights, lambda state: converted(state, method), case.inputs
        )
        # The images are behind CLIP, which stage 2 has frozen.
        combining = "grad.Combiner."
        result |= {k: g for k, g in gradients.items() if k.startswith(combining) == (stage == 2)}
    return result


def converted(state: State, method: CLIP4Cir) -> State:
    return official_state([split_entries(state, "CLIP", "Combiner")], method)


def layer4_map(clip: Clip, images: Tensor) -> Tensor:
    """The input map of a ResNet tower's attention pooling."""
    seen: list[Tensor] = []
    pooling = clip.model.visual.attnpool
    hook = pooling.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        clip.features(images)
    hook.remove()
    return seen[0]


def batch_of(case: Case) -> Batch:
    """References, then targets; query i has target i."""
    images = torch.cat([case.inputs["reference_image"], case.inputs["target_image"]])
    rows = torch.arange(len(images) // 2)
    return Batch(
        images=images,
        features=None,
        reference=rows,
        candidates=rows + len(rows),
        target=rows,
        excluded=torch.zeros(len(rows), len(rows), dtype=torch.bool),
        text=[""] * len(rows),
        tokens={"ids": case.inputs["token_ids"]},
    )
