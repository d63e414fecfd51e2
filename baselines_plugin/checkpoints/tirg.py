"""The checkpoints of TIRG and of what is built on its code: where a key goes in our state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from cir_plugins import CIRError, Ledger, Method, entry

# (pattern of the official key, our key). The ResNet has torchvision's names, as timm has.
Rules = Sequence[tuple[str, str]]
IMAGE_RULES: Rules = (
    (r"normalization_layer\.norm_s", "norm_s"),
    (r"img_model\.fc\.0\.(weight|bias)", r"backbone.head.\1"),
    (r"img_model\.(?!fc\.)(.+)", r"backbone.trunk.\1"),
)
LSTM_RULES: Rules = (
    (r"text_model\.embedding_layer\.weight", "backbone.text.embedding.weight"),
    (r"text_model\.lstm\.(.+)", r"backbone.text.lstm.\1"),
    (r"text_model\.fc_output\.1\.(weight|bias)", r"backbone.text.output.1.\1"),
)


def model_state(checkpoints: Sequence[Mapping[str, Any]]) -> Mapping[str, Tensor]:
    """The model's state: entry ``model_state_dict``, or the checkpoint itself where it is one.

    Raises:
        CIRError: If there is neither.
    """
    found = entry(checkpoints, "model_state_dict")
    if found is not None:
        return found
    for checkpoint in checkpoints:
        if checkpoint and all(isinstance(value, Tensor) for value in checkpoint.values()):
            return checkpoint
    names = ", ".join(str(name) for checkpoint in checkpoints for name in list(checkpoint)[:5])
    raise CIRError(
        f"the checkpoint holds no model: found {names or 'nothing'}; "
        "accepted: a table with the entry 'model_state_dict'"
    )


def renamed(
    checkpoints: Sequence[Mapping[str, Any]], rules: Rules, *, unused: Sequence[str] = ()
) -> dict[str, Tensor]:
    """The official state under our names.

    Args:
        checkpoints: As they were loaded.
        rules: Which key goes where.
        unused: Patterns of keys that have no place here.

    Raises:
        CIRError: If a key is left over.
    """
    ledger = Ledger(model_state(checkpoints), "entry 'model_state_dict'")
    ledger.drop(*unused)
    state: dict[str, Tensor] = {}
    for pattern, replacement in rules:
        state.update(ledger.rename(pattern, replacement))
    ledger.finish()
    return state


def refuse_other_variant(
    checkpoints: Sequence[Mapping[str, Any]], variant: str, marks: Mapping[str, str]
) -> None:
    """Nothing, unless the model's keys are those of another variant of the method.

    Args:
        checkpoints: As they were loaded.
        variant: The method's.
        marks: Variant -> what begins keys that it alone has.

    Raises:
        CIRError: If they are, with the option that fits, or the checkpoint holds no model.
    """
    state = model_state(checkpoints)
    found = [name for name, mark in marks.items() if any(key.startswith(mark) for key in state)]
    if found and variant not in found:
        raise CIRError(
            f"the checkpoint is of variant '{found[0]}', not '{variant}'; "
            f"accepted: --set method.variant={found[0]}"
        )


def own_state(method: Method, prefix: str) -> dict[str, Tensor]:
    """What the method has under a prefix, for parts that official checkpoints do not hold."""
    return {key: value for key, value in method.state_dict().items() if key.startswith(prefix)}
