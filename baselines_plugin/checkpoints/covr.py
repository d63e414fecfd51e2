"""Official checkpoints of CoVR and CoVR-2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from baselines_plugin.checkpoints.blip_files import take_blip
from baselines_plugin.checkpoints.lavis_keys import blip2_state
from baselines_plugin.parts.untuned import COPIED
from cir_plugins import CIRError, Ledger, Method, entry


def official_covr(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``CoVR`` from an official ``.ckpt``, in which keys may begin with ``module.``.

    Raises:
        CIRError: If the entry is missing or a key is left over.
    """
    if len(checkpoints) != 1:
        raise CIRError(f"CoVR has one checkpoint; found {len(checkpoints)}")
    state = _model_of(checkpoints[0])
    ledger = Ledger({key.removeprefix("module."): state[key] for key in state}, "entry 'model'")
    taken = {f"backbone.model.{key}": value.float() for key, value in take_blip(ledger).items()}
    ledger.finish()
    return {**_own_state(method, "backbone.model.itm_head", "log_temperature"), **taken}


def official_covr2(checkpoints: Sequence[Mapping[str, Any]], method: Method) -> dict[str, Tensor]:
    """The state of ``CoVR2`` from an official checkpoint and the one that it was tuned from.

    The second is LAVIS' ``blip2_finetune_coco.pth``: it makes the targets.

    Raises:
        CIRError: If there are not two of them, or a key is left over.
    """
    if len(checkpoints) != 2:
        raise CIRError(
            f"CoVR-2 needs two checkpoints, found {len(checkpoints)}: its own, and after it the "
            "one it was tuned from (blip2_finetune_coco.pth), whose Q-Former makes the targets"
        )
    tuned, start = (Ledger(_model_of(file), "entry 'model'") for file in checkpoints)
    state = blip2_state(tuned, "backbone.model.")
    tuned.finish()
    # What LAVIS' stage one holds beside the model.
    start.drop("temp", r"itm_head\..*")
    before = blip2_state(start)
    start.finish()
    heads = {f"untuned.{key}": value for key, value in before.items() if key.startswith(COPIED)}
    return {**_own_state(method, "backbone.model.itm_head", "log_temperature"), **state, **heads}


def _model_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    found = entry([checkpoint], "model")
    if found is None:
        raise CIRError("no checkpoint of CoVR or BLIP: it has no entry 'model'")
    return found


def _own_state(method: Method, *starts: str) -> dict[str, Tensor]:
    """What a method holds under keys that begin so, for what official checkpoints do not have."""
    return {k: value for k, value in method.state_dict().items() if k.startswith(starts)}
