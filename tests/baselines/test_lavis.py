from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from baselines_plugin.checkpoints.lavis import main, start_config, start_state, write_start
from baselines_plugin.checkpoints.lavis_keys import blip2_state
from cir_plugins import CIRError
from cir_plugins.builtin.blip2 import Blip2
from cir_plugins.runs.convert import Ledger
from tests.baselines.lavis_shapes import (
    HEAD,
    TEMP,
    VIT_G,
    clip,
    empty,
    eva,
    filled,
    qformer,
    visual,
)

SIZES = {"hidden": 24, "mlp": 32, "layers": 2, "words": 30, "shared": 8, "queries": 4}


def start(width: int) -> dict[str, Tensor]:
    heads = {"itm_head.weight": (2, 24), "itm_head.bias": (2,)}
    return filled({**qformer(width, **SIZES), **heads, **TEMP}, torch.randn)


def test_the_bias_that_keys_lack_is_zero() -> None:
    block = "visual_encoder.blocks.0.attn"
    state = {
        f"{block}.q_bias": torch.tensor([1.0, 2.0]),
        f"{block}.v_bias": torch.tensor([3.0, 4.0]),
    }
    result = blip2_state(Ledger(state, "it"), "model.")
    (key,) = result
    assert key == "model.vision_model.encoder.layers.0.self_attn.qkv.bias"
    assert result[key].tolist() == [1, 2, 0, 0, 3, 4]
    ledger = Ledger({f"{block}.q_bias": torch.ones(2)}, "the file")
    blip2_state(ledger)
    with pytest.raises(CIRError, match=r"the file does not fit; missing: .*attn\.v_bias"):
        ledger.finish()


def test_joined_projections_are_cut_in_three() -> None:
    key = "visual_encoder.transformer.resblocks.3.attn.in_proj_bias"
    result = blip2_state(Ledger({key: torch.arange(6)}, "it"))
    layer = "vision_model.clip.encoder.layers.3.self_attn"
    assert {name: entry.tolist() for name, entry in result.items()} == {
        f"{layer}.q_proj.bias": [0, 1],
        f"{layer}.k_proj.bias": [2, 3],
        f"{layer}.v_proj.bias": [4, 5],
    }
    assert all(entry.dtype == torch.float32 for entry in result.values())


def test_sizes_are_read_off_the_published_ones() -> None:
    state, left = start_state(
        [
            {"model": filled({**qformer(1408), **HEAD, **TEMP}, empty)},
            filled(eva(1408, 6144, 40, 257, 14), empty),
        ]
    )
    assert list(left) == ["temp"]
    config = start_config(state)
    assert config["vision_config"] == {
        "model_type": "blip_2_vision_model",
        "hidden_size": 1408,
        "intermediate_size": 6144,
        "num_hidden_layers": 39,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
    }
    assert config["qformer_config"]["num_attention_heads"] == 12
    assert (config["num_query_tokens"], config["image_text_hidden_size"]) == (32, 256)
    coco = {**visual({**VIT_G, "pos_embed": (1, 677, 1408)}), **qformer(1408), **HEAD}
    state, left = start_state([{"model": filled(coco, empty)}])
    assert start_config(state)["vision_config"]["image_size"] == 364
    assert not left


def test_a_written_folder_is_a_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both towers; the ViT's file has a last norm that is not in the model."""
    for name, vit in (("eva", eva(176, 20, 2, 5, 4)), ("clip", clip(64, 20, 2, 5, 4))):
        width = 176 if name == "eva" else 64
        model, tower, out = tmp_path / "m.pth", tmp_path / "v.pth", tmp_path / name
        torch.save({"model": start(width)}, model)
        torch.save({**filled(vit, torch.randn), "last.norm": torch.zeros(2)}, tower)
        main([str(model), str(tower), "--out", str(out), "--tokenizer", ""])
        output = capsys.readouterr().out
        assert "its temperature: --set method.temperature=" in output
        assert "not in the model: visual_encoder.last.norm" in output
        backbone = Blip2(model=str(out)).eval()
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        assert config["vision_config"]["image_size"] == 8
        official = torch.load(model, weights_only=True)["model"]
        assert torch.equal(backbone.model.query_tokens, official["query_tokens"])
        with torch.no_grad():
            target = backbone.encode_gallery(backbone.features(torch.randn(2, 3, 8, 8)))
        assert target.shape == (2, 4, 8)


def test_unfitting_files_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CIRError, match="2 of the 2 files have an entry 'model'"):
        start_state([{"model": start(24)}, {"model": start(24)}])
    with pytest.raises(CIRError, match="the files hold no ViT"):
        start_state([{"model": start(24)}])
    missing = start(64)
    del missing["text_proj.weight"]
    file = tmp_path / "a.pth"
    torch.save({"model": {**missing, **filled(visual(clip(64, 20, 2, 5, 4)))}}, file)
    with pytest.raises(CIRError, match=r"not BLIP-2's: text_projection\.weight is missing"):
        write_start([file], tmp_path / "out", "")
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "none.pth"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "none.pth does not exist" in capsys.readouterr().err
    torch.save({"model": {**start(64), **filled(visual(clip(64, 20, 2, 5, 4)))}}, file)
    with pytest.raises(CIRError, match="tokenizer 'nowhere' could not be loaded"):
        write_start([file], tmp_path / "out", "nowhere")
