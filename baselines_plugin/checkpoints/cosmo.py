"""What the official checkpoints of CoSMo and MGUR hold, under this project's names."""

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
    checkpoints: Sequence[Mapping[str, Any]], needed: Sequence[str], known: Sequence[str]
) -> dict[str, Ledger]:
    """The state dicts of a checkpoint by entry, each ready to be taken apart.

    Args:
        checkpoints: As loaded; the first with ``model_state_dict`` counts.
        needed: Entries without which it is another method's checkpoint.
        known: Entries that may be there besides; those that are not come out empty.

    Raises:
        CIRError: If an entry is missing or unknown.
    """
    states = entry(checkpoints, _ROOT)
    if states is None:
        found = sorted({str(key) for checkpoint in checkpoints for key in checkpoint})[:10]
        raise CIRError(
            f"the checkpoint has no '{_ROOT}'; it holds: {', '.join(found) or 'nothing'}"
        )
    accepted = (*needed, *known)
    missing = [name for name in needed if not isinstance(states.get(name), Mapping)]
    strange = [str(name) for name in states if name not in accepted]
    if missing or strange:
        told = [f"missing: {', '.join(missing)}"] * bool(missing)
        told += [f"unexpected: {', '.join(strange[:20])}"] * bool(strange)
        raise CIRError(
            f"the entries of '{_ROOT}' do not fit; {'; '.join(told)}\n"
            f"accepted: {', '.join(accepted)}"
        )
    given: Mapping[str, Any] = states
    return {name: Ledger(given.get(name) or {}, f"entry '{name}'") for name in accepted}


def shared_state(entries: Mapping[str, Ledger]) -> dict[str, Tensor]:
    """Trunk, head and compositor of the entries in ``SHARED``, which CoSMo and MGUR both have.

    Raises:
        CIRError: If a key of theirs is left over.
    """
    head, layer4, trunk = (entries[name] for name in SHARED)
    state = trunk.rename(r"_model\.(?!fc\.)(.+)", r"backbone.trunk.\1")
    # The classes of ImageNet, which neither method reads.
    trunk.drop(r"_model\.fc\.(weight|bias)")
    state |= head.rename(r"fc\.(weight|bias)", r"backbone.head.\1")
    state |= layer4.rename("weights", "compositor.weights")
    for theirs, ours in (("att_module", "first"), ("att_module2", "second")):
        for part, name in _ATTENTION.items():
            state |= layer4.rename(
                rf"{theirs}\.{part}\.(weight|bias)", rf"compositor.{ours}.{name}.\1"
            )
    for part, name in _STYLE.items():
        state |= layer4.rename(
            rf"global_styler\.{part}\.linear\.(weight|bias)(?:_orig)?",
            rf"compositor.style.{name}.\1",
        )
    return state


def finish(entries: Mapping[str, Ledger]) -> None:
    """Check that every key of every entry was used.

    Raises:
        CIRError: With the keys that were not, of the first entry that has some.
    """
    for ledger in entries.values():
        ledger.finish()
