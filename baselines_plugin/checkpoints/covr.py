"""Official checkpoints of CoVR and CoVR-2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from baselines_plugin.backbones.blip_files import take_blip
from baselines_plugin.checkpoints.lavis_keys import blip2_state
from baselines_plugin.checkpoints.tirg import method_state
from baselines_plugin.parts.frozen_qformer import COPIED
from cir_plugins import CIRError, Ledger, Method, entry

_OURS = ("backbone.model.itm_head", "log_temperature")  # not in official checkpoints


def official_covr(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``CoVR`` from an official ``.ckpt``, whose keys may begin with ``module.``.

    Raises:
        CIRError: If the entry is missing or a key is unknown.
    """
    if len(checkpoints) != 1:
        raise CIRError(f"CoVR has one checkpoint; found {len(checkpoints)}")
    state = _model_of(checkpoints[0])
    ledger = Ledger({key.removeprefix("module."): state[key] for key in state}, "entry 'model'")
    tuned = {f"backbone.model.{key}": value.float() for key, value in take_blip(ledger).items()}
    ledger.finish()
    return {**method_state(method, *_OURS), **tuned}


def official_covr2(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``CoVR2`` from an official checkpoint and its start checkpoint.

    The second is LAVIS' ``blip2_finetune_coco.pth``, whose Q-Former encodes the targets.

    Raises:
        CIRError: If there are not two checkpoints, or a key is unknown.
    """
    if len(checkpoints) != 2:
        raise CIRError(
            f"CoVR-2 needs two checkpoints, found {len(checkpoints)}: its own, and after it the "
            "one it was tuned from (blip2_finetune_coco.pth), whose Q-Former encodes the targets"
        )
    tuned, start = (Ledger(_model_of(file), "entry 'model'") for file in checkpoints)
    state = blip2_state(tuned, "backbone.model.")
    tuned.finish()
    # Entries of LAVIS' stage one beside the model.
    start.drop("temp", r"itm_head\..*")
    initial = blip2_state(start)
    start.finish()
    copies = {f"untuned.{key}": value for key, value in initial.items() if key.startswith(COPIED)}
    return {**method_state(method, *_OURS), **state, **copies}


def _model_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    state = entry([checkpoint], "model")
    if state is None:
        raise CIRError("no checkpoint of CoVR or BLIP: it has no entry 'model'")
    return state
