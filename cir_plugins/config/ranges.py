"""Settings made from the values of a table, each checked against its type and its range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from cir_plugins.errors import CIRError
from cir_plugins.plugins.options import check_options, options_of

S = TypeVar("S")
_MOST = 1e9


class _Range(NamedTuple):
    low: float
    high: float
    accepted: str


_FROM_0 = _Range(0, _MOST, "0 or more")
_FROM_1 = _Range(1, _MOST, "1 or more")
_SHARE = _Range(0, 1, "0 to 1")
_SMALL = 1e-12
_RANGES: Mapping[str, _Range] = MappingProxyType(
    {
        "epochs": _FROM_0,
        "batch_size": _FROM_1,
        "lr": _Range(_SMALL, 1e3, "above 0, up to 1000"),
        "weight_decay": _Range(0, 1e3, "0 to 1000"),
        "betas": _Range(0, 1 - 1e-9, "two numbers from 0 up to 1"),
        "eps": _Range(0, 1, "0 to 1"),
        "lr_floor": _SHARE,
        "schedule_epochs": _FROM_0,
        "warmup": _Range(0, 0.99, "0 up to 0.99"),
        "start_factor": _Range(_SMALL, 1, "above 0, up to 1"),
        "milestones": _FROM_0,
        "gamma": _Range(_SMALL, 1, "above 0, up to 1"),
        "clip": _FROM_0,
        "mined": _Range(1, 1e4, "1 to 10000"),
        "mine_every": _FROM_0,
        "mine_from": _Range(-1, _MOST, "-1, or 0 or more"),
        "validate_every": _FROM_0,
        "micro_batch": _FROM_0,
        "ema": _Range(0, 1 - 1e-9, "0 up to 1"),
        "seed": _Range(0, 2**31 - 1, "0 to 2147483647"),
        "workers": _Range(-1, 256, "-1 to 256"),
        "feature_cache_mb": _FROM_0,
    }
)


def checked_settings(
    kind: type[S], table: str, given: Mapping[str, Any], errors: list[str]
) -> S | None:
    """The settings with the given values, or None with messages added to ``errors``.

    Args:
        kind: A dataclass whose fields all have defaults.
        table: Name of the table, for messages.
        given: Values by name, as a TOML file holds them.
        errors: Gets one message per value that does not fit.
    """
    try:
        settings = kind(**check_options(f"[{table}]", options_of(kind), given))
    except CIRError as error:
        errors.append(str(error))
        return None
    wrong = False
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        allowed = _RANGES.get(field.name)
        values = value if isinstance(value, tuple) else (value,)
        if allowed and not all(allowed.low <= item <= allowed.high for item in values):
            shown = list(value) if isinstance(value, tuple) else value
            errors.append(f"{table}.{field.name} cannot be {shown}; accepted: {allowed.accepted}")
            wrong = True
    return None if wrong else settings
