from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cir_plugins.builtin.blip2 import TinyBlip2
from cir_plugins.errors import CIRError
from cir_plugins.training.activations import checkpoint_activations, compile_blocks
from cir_plugins.types import Tokens
from tests.fakes import FakeBackbone, make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients(backbone: nn.Module, loss: Callable[[], Tensor]) -> tuple[dict[str, Tensor], int]:
    """Gradients of a loss, and the bytes stored for the backward pass."""
    stored = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal stored
        stored += 0 if isinstance(tensor, nn.Parameter) else tensor.numel() * tensor.element_size()
        return tensor

    backbone.train()
    backbone.zero_grad()
    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    grads = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.grad is not None}
    return grads, stored


def small_blip2() -> tuple[nn.Module, Callable[[], Tensor]]:
    """Of transformers, a network of timm in it, with dropout."""
    backbone = TinyBlip2(vision="trained", start="random", dropout=0.3)
    side = backbone.preprocess.size
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    tokens = backbone.tokenize(["is red with long sleeves", "is blue", "has no collar"])

    def loss() -> Tensor:
        features = backbone.features(pixels)
        query, target = backbone.encode_query(features, tokens), backbone.encode_gallery(features)
        return backbone.similarity(query, target).square().sum()

    return backbone, loss


def small_clip() -> tuple[nn.Module, Callable[[], Tensor]]:
    """Of open_clip."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    tower = CLIPVisionCfg(layers=3, width=32, head_width=16, image_size=32, patch_size=8)
    text = CLIPTextCfg(context_length=8, vocab_size=50, width=32, heads=2, layers=3)
    network = CLIP(16, tower, text)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    words = torch.arange(24).view(3, 8)
    return network, lambda: (network.encode_image(pixels) * network.encode_text(words)).sum()


@pytest.mark.parametrize(("make", "most"), [(small_blip2, 0.8), (small_clip, 0.5)])
def test_recomputed_activations_give_the_same_gradients(make: Any, most: float) -> None:
    torch.manual_seed(0)
    backbone, loss = make()
    plain, stored = gradients(backbone, loss)
    assert checkpoint_activations(backbone)
    again, stored_again = gradients(backbone, loss)
    assert plain.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in plain.items())
    assert any(value.abs().max() > 0 for value in plain.values())
    assert stored_again < most * stored


class Timm(nn.Module):
    """A backbone over a network with the switch that timm and open_clip have."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2) if norm else nn.ReLU())
        self.network.set_grad_checkpointing = self.switch  # type: ignore[assignment]
        self.on = False

    def switch(self, enable: bool) -> None:
        """Remembers."""
        self.on = enable


def test_a_network_with_batch_norms_keeps_its_activations() -> None:
    backbone = Timm(norm=False)
    assert checkpoint_activations(backbone) == 1
    assert backbone.on
    with pytest.raises(CIRError, match="backbone Timm has no network whose activations can be"):
        checkpoint_activations(Timm(norm=True))


def test_backbone_without_checkpointing_is_an_error(tmp_path: Path) -> None:
    accepted = r"accepted: memory.checkpointing=false, or a smaller train.micro_batch"
    with pytest.raises(CIRError, match=rf"FakeBackbone has no network .*; {accepted}"):
        make_trainer(tmp_path / "run", tmp_path / "data", memory={"checkpointing": True})
    with pytest.raises(
        CIRError, match=r"no stack of blocks to compile; accepted: memory\.compile="
    ):
        make_trainer(tmp_path / "run", tmp_path / "data", memory={"compile": True})


def test_a_missing_compiler_is_an_early_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-c++")
    with pytest.raises(CIRError, match="needs a C\\+\\+ compiler and 'no-such-c\\+\\+' is not"):
        compile_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))


class Block(nn.Module):
    """A residual layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)
        self.dropout = nn.Dropout(0.3)

    def forward(self, hidden: Tensor) -> Tensor:
        """Of the same shape."""
        changed: Tensor = self.dropout(torch.tanh(self.linear(hidden)))
        return hidden + changed


class Stacked(FakeBackbone):
    """The fake backbone with two blocks over its features."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        torch.manual_seed(1)
        self.blocks = nn.ModuleList([Block(), Block()])

    def encode_query(self, features: Tensor, tokens: Tokens) -> Tensor:
        """Of the features after the blocks."""
        for block in self.blocks:
            features = block(features)
        return super().encode_query(features, tokens)


def weights(trainer: Any) -> dict[str, Tensor]:
    trainer.fit()
    return {name: value.detach() for name, value in trainer.method.state_dict().items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of what the compiler meets
def test_compiled_steps_equal_plain_ones_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, whole and in micro-batches; checkpoints fit runs with and without compiling."""
    monkeypatch.setattr("tests.fakes.FakeBackbone", Stacked)
    other: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "epochs": 2, "validated": False}
    for micro_batch in (0, 3):
        settings: dict[str, Any] = {**other, "micro_batch": micro_batch}
        plain = make_trainer(tmp_path / f"plain{micro_batch}", tmp_path / "data", **settings)
        folder = tmp_path / f"compiled{micro_batch}"
        compiled = make_trainer(folder, tmp_path / "data", memory={"compile": True}, **settings)
        assert isinstance(compiled.method.backbone, Stacked)
        one, two = weights(plain), weights(compiled)
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert torch.allclose(value, two[name], atol=1e-5), name
        resumed = make_trainer(folder, tmp_path / "data", **settings)
        resumed.fit(resume=True)
        assert resumed.progress.epoch == 2
        for name, value in resumed.method.state_dict().items():
            assert torch.equal(value, two[name]), name
    start = make_trainer(tmp_path / "new", tmp_path / "data", **other).method.state_dict()
    assert not torch.allclose(start["backbone.blocks.0.linear.weight"], two[name_of(two)])
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] >= 2


def name_of(state: dict[str, Tensor]) -> str:
    return next(name for name in state if name.endswith("blocks.0.linear.weight"))
