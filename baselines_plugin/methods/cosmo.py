"""CoSMo: a reference's feature map changed by the text, first in content, then in style.

An independent implementation from the paper; no weights were published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from baselines_plugin.backbones.resnet import check_levels
from baselines_plugin.checkpoints.cosmo import SHARED, finish, read_entries, shared_state
from baselines_plugin.checkpoints.vocabulary import vocabulary_option
from baselines_plugin.licences import LICENCES
from baselines_plugin.parts.compositor import Compositor
from baselines_plugin.ranges import Heads, Scale
from cir_plugins import (
    Component,
    Components,
    Features,
    Method,
    Plan,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    unit,
)


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``CoSMo`` from an official ``best.pth``.

    Raises:
        CIRError: If an entry or a key is missing or left over.
    """
    needed = ("text_encoder", *SHARED[:2])
    entries = read_entries(checkpoints, needed, SHARED[2:])
    text = entries["text_encoder"]
    state = shared_state(entries)
    state |= text.rename(r"embedding_layer\.weight", "backbone.text.embedding.weight")
    state |= text.rename(r"lstm\.(.+_l0)", r"backbone.text.lstm.\1")
    state |= text.rename(r"fc\.1\.(weight|bias)", r"backbone.text.output.1.\1")
    finish(entries)
    return {**state, "log_temperature": method.log_temperature.detach()}


class CoSMo(Method):
    """A map composed by content and style modulation, pooled and projected as the targets are.

    Logits are norm_scale² times the cosine; there is no learned temperature.

    Args:
        components: Backbone with a feature map and text features, loss and sampler.
        heads: Attention heads; they must divide the map's channels.
        norm_scale: Length that embeddings have in the published method, above 0.

    Source: Lee, Kim, Han, CoSMo, CVPR 2021, section 3; settings of the authors' repository.
    Differs: an independent implementation from the paper. Equal targets of a batch share a column;
    the official code takes row i's target as the only positive.
    The official configuration trains one model per category (``--set data.categories=["dress"]``).
    """

    licences = LICENCES["cosmo"]
    recipe = Recipe(
        source="Lee, Kim, Han, CoSMo: Content-Style Modulation for Image Retrieval with Text "
        "Feedback, CVPR 2021, pp. 802-812",
        backbone=Component(
            "resnet",
            {"model": "resnet50.tv_in1k", "text": "lstm", "rule": "cosmo", "resize": "squash"},
        ),
        train=TrainSettings(
            epochs=50,
            batch_size=32,
            drop_last=True,
            lr=2e-4,
            weight_decay=5e-5,
            optimizer="radam",
            augment="crop_flip",
            known_positives="target",
            precision="fp32",
        ),
        schedule=ScheduleSettings(name="step", milestones=(30,)),
        datasets={
            "fashioniq": {
                "data.drop_reference": True,
                "data.caption_mode": "both_orders",
                "data.strip": False,
                "data.capitalise": False,
            }
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"feature_map", "text_features"})
    official = staticmethod(official_state)
    official_files: ClassVar[Mapping[str, Callable[[Path], Mapping[str, Any]]]] = MappingProxyType(
        {".pkl": vocabulary_option}
    )

    def __init__(
        self, components: Components, *, heads: Heads = 8, norm_scale: Scale = 4.0
    ) -> None:
        if norm_scale <= 0:
            raise ValueError(f"norm_scale must be above 0, not {norm_scale}")
        super().__init__(components, temperature=norm_scale**-2, learn_temperature=False)
        self.norm_scale = norm_scale
        self.compositor = Compositor(self.backbone.channels, self.backbone.text.width, heads=heads)

    @staticmethod
    def check_compatibility(plan: Plan) -> str:
        """Reason why the plan's components cannot work together; "" where they can."""
        return check_levels(plan, "last")

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D) of unit length."""
        composed = self.compositor(features, self.backbone.describe(tokens)).out
        return unit(self.backbone.project(composed))
