"""Official checkpoints of CoSMo and MGUR under our keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from cir_plugins import CIRError, Ledger, entry

_ROOT = "model_state_dict"
_ATTENTION = MappingProxyType(
    {
        "merge": "fuse",
        "W_v": "value",
        "W_r": "out",
        r"self_att_generator\.W_k": "key",
        r"self_att_generator\.W_q": "query",
        r"global_att_generator\.W_t": "text",
    }
)
_STYLE = MappingProxyType({"gate": "gate", "global_transform": "shift"})
SHARED = ("upper_image_encoder", "layer4", "lower_image_encoder")


def read_entries(
    checkpoints: Sequence[Mapping[str, Any]], required: Sequence[str], optional: Sequence[str]
) -> dict[str, Ledger]:
    """The state dicts of a checkpoint by entry, each in a ledger.

    Args:
        checkpoints: As loaded; the first with ``model_state_dict`` counts.
        required: Entries that the method's checkpoints have.
        optional: Entries that may be missing; their ledgers are then empty.

    Raises:
        CIRError: If an entry is missing or unknown.
    """
    states = entry(checkpoints, _ROOT)
    if states is None:
        entries = sorted({str(key) for checkpoint in checkpoints for key in checkpoint})[:10]
        raise CIRError(
            f"the checkpoint has no '{_ROOT}'; it holds: {', '.join(entries) or 'nothing'}"
        )
    accepted = (*required, *optional)
    missing = [name for name in required if not isinstance(states.get(name), Mapping)]
    unexpected = [str(name) for name in states if name not in accepted]
    if missing or unexpected:
        problems = [f"missing: {', '.join(missing)}"] * bool(missing)
        problems += [f"unexpected: {', '.join(unexpected[:20])}"] * bool(unexpected)
        raise CIRError(
            f"the entries of '{_ROOT}' do not fit; {'; '.join(problems)}\n"
            f"accepted: {', '.join(accepted)}"
        )
    modules: Mapping[str, Any] = states
    return {name: Ledger(modules.get(name) or {}, f"entry '{name}'") for name in accepted}


def shared_state(entries: Mapping[str, Ledger]) -> dict[str, Tensor]:
    """Trunk, head and compositor of CoSMo and MGUR, from the entries in ``SHARED``.

    Raises:
        CIRError: If one of their keys is unknown.
    """
    head, layer4, trunk = (entries[name] for name in SHARED)
    state = trunk.rename(r"_model\.(?!fc\.)(.+)", r"backbone.trunk.\1")
    # The classifier of ImageNet, unused by both methods.
    trunk.drop(r"_model\.fc\.(weight|bias)")
    state |= head.rename(r"fc\.(weight|bias)", r"backbone.head.\1")
    state |= layer4.rename("weights", "compositor.weights")
    for theirs, ours in (("att_module", "first"), ("att_module2", "second")):
        for layer, name in _ATTENTION.items():
            state |= layer4.rename(
                rf"{theirs}\.{layer}\.(weight|bias)", rf"compositor.{ours}.{name}.\1"
            )
    for layer, name in _STYLE.items():
        state |= layer4.rename(
            rf"global_styler\.{layer}\.linear\.(weight|bias)(?:_orig)?",
            rf"compositor.style.{name}.\1",
        )
    return state


def finish(entries: Mapping[str, Ledger]) -> None:
    """Check that every key of every entry was used.

    Raises:
        CIRError: With the unused keys of the first entry that has some.
    """
    for ledger in entries.values():
        ledger.finish()
