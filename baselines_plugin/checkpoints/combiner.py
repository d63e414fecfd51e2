"""The Combiner in official checkpoints of CLIP4Cir and Bi-BLIP4CIR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from baselines_plugin.parts.combiner import Composer
from cir_plugins import CIRError, Ledger, entry, need_entry


def combiner_state(
    checkpoints: Sequence[Mapping[str, Any]], composer: Composer
) -> dict[str, Tensor]:
    """State of a ``Composer`` from official checkpoints, keys without a prefix.

    Raises:
        CIRError: If the entry ``Combiner`` is missing, unused in this stage, or has other keys.
    """
    state = {"combining": torch.tensor(composer.combiner is not None)}
    if composer.combiner is None:
        if entry(checkpoints, "Combiner") is not None:
            raise CIRError(
                "entry 'Combiner' is not for stage 'sum'; leave its file out, or leave out "
                "--set method.stage=sum"
            )
        return state
    what = "of combiner.pt; without one: --set method.stage=sum"
    ledger = Ledger(need_entry(checkpoints, "Combiner", what), "entry 'Combiner'")
    for name in composer.combiner.state_dict():
        tensor = ledger.take(name)
        if tensor is not None:
            state[f"combiner.{name}"] = tensor
    ledger.finish()
    return state
