"""QuRe: one mined negative per query, from between two large gaps of the sorted scores.

An independent implementation from the paper; no code of its repository, which has no licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baselines_plugin.checkpoints.lavis_keys import blip2_state
from baselines_plugin.licences import LICENCES
from baselines_plugin.ranges import Temperature
from cir_plugins import (
    TEMPERATURE,
    CIRError,
    Component,
    Components,
    Features,
    Fused,
    Ledger,
    Method,
    MiningSettings,
    Official,
    Recipe,
    ScheduleSettings,
    Tokens,
    TrainSettings,
    unit,
)

_LAVIS = {"data.lower": True, "data.symbols": "blank", "data.max_words": 50}


def official_state(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``QuRe`` from an official ``model.pth``, which is a bare state dict.

    Raises:
        CIRError: If there is more than one file, or a key is missing or left over.
    """
    if len(checkpoints) != 1:
        raise CIRError(f"QuRe has one checkpoint, a bare state dict; found {len(checkpoints)}")
    ledger = Ledger(checkpoints[0], "the QuRe checkpoint")
    state = blip2_state(ledger, "backbone.model.")
    temp = ledger.take("temp")
    ledger.finish()
    return state if temp is None else {**state, "temp": temp.float()}


class QuRe(Method):
    """QuRe: the normalised mean of the projected query tokens, against one mined negative.

    Args:
        components: A backbone with query tokens, loss and sampler.
        temperature: Start value of the temperature; BLIP-2 start files may bring their own.
        learn_temperature: Whether the temperature is trained.

    Source: Kwak, Inhar, Yun, Lee, QuRe, ICML 2025, arXiv 2507.12416. Negatives are random until
    epoch E // 6 (of E), and from there on drawn with replacement across epochs from a set that is
    computed again every E // 6 epochs.
    Differs: where no pair of gaps qualifies (see ``two_drops``). Between two computations of the
    set, negatives are drawn without replacement, as in the paper; the released code loses its
    history in every epoch.
    """

    licences = LICENCES["qure"]
    recipe = Recipe(
        source="Kwak, Inhar, Yun, Lee, QuRe, ICML 2025, arXiv 2507.12416",
        backbone=Component("blip2", {"model": "vit_l"}),
        loss=Component("pairwise"),
        sampler=Component("two_drops"),
        train=TrainSettings(
            epochs=50,
            batch_size=32,
            lr=1e-5,
            weight_decay=0.05,
            known_positives="target",
            select="last",
        ),
        schedule=ScheduleSettings(floor=0.01),
        mining=MiningSettings(negatives="mined", per_query=1),
        datasets={
            "cirr": _LAVIS,
            "fashioniq": {
                **_LAVIS,
                "train.epochs": 30,
                "train.lr": 5e-6,
                "mining.from_images": "targets",
            },
            "circo": {**_LAVIS, "data.prefix": "a photo of $ that {}"},
        },
    )
    needs: ClassVar[frozenset[str]] = frozenset({"query_tokens"})
    official: ClassVar[Official] = official_state

    def __init__(
        self,
        components: Components,
        *,
        temperature: Temperature = TEMPERATURE,
        learn_temperature: bool = True,
    ) -> None:
        super().__init__(components, temperature=temperature, learn_temperature=learn_temperature)
        # The official parameter is the temperature itself, not its logarithm.
        del self.log_temperature
        self.temp = nn.Parameter(torch.tensor(temperature), requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        """The temperature, a scalar, not bounded below by 0."""
        return self.temp

    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        """Composed queries (B, D): the mean of the projected query tokens at unit length."""
        fused: Fused = self.backbone.fuse(features, tokens)
        return unit(self.backbone.project_text(fused.tokens).mean(dim=1))
