"""Official checkpoints of TIRG and ComposeAE: renaming rules for their keys."""

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
    state = entry(checkpoints, "model_state_dict")
    if state is not None:
        return state
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
    """The official state under our keys.

    Args:
        checkpoints: As loaded.
        rules: Patterns of official keys, and our keys.
        unused: Patterns of keys without a counterpart.

    Raises:
        CIRError: If a key is unknown.
    """
    ledger = Ledger(model_state(checkpoints), "entry 'model_state_dict'")
    ledger.drop(*unused)
    state: dict[str, Tensor] = {}
    for pattern, replacement in rules:
        state.update(ledger.rename(pattern, replacement))
    ledger.finish()
    return state


def check_variant(
    checkpoints: Sequence[Mapping[str, Any]], variant: str, marks: Mapping[str, str]
) -> None:
    """Check that the keys are not those of another variant of the method.

    Args:
        checkpoints: As loaded.
        variant: The method's.
        marks: Variant -> beginning of keys that only it has.

    Raises:
        CIRError: If they are, or if the checkpoint holds no model.
    """
    state = model_state(checkpoints)
    fitting = [name for name, mark in marks.items() if any(key.startswith(mark) for key in state)]
    if fitting and variant not in fitting:
        raise CIRError(
            f"the checkpoint is of variant '{fitting[0]}', not '{variant}'; "
            f"accepted: --set method.variant={fitting[0]}"
        )


def method_state(method: Method, *prefixes: str) -> dict[str, Tensor]:
    """The method's own tensors under prefixes, where official checkpoints have none."""
    return {key: value for key, value in method.state_dict().items() if key.startswith(prefixes)}
