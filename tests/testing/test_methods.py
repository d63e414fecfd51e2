from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cir_plugins import (
    Batch,
    CIRError,
    Components,
    Features,
    Method,
    MiningSettings,
    Recipe,
    Tokens,
    TrainSettings,
    unit,
)
from cir_plugins.testing import ContractError, check_method
from tests.testing.toy import Toy


class _Bare(Method):
    recipe = Recipe(source="nobody", mining=MiningSettings(negatives="mined"))


class _NotScalar(_Bare):
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": torch.ones(4)}


class _Detached(_Bare):
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        return {name: term.detach() for name, term in super().loss_terms(batch).items()}


class _NotFinite(_Bare):
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        return {name: term / 0 for name, term in super().loss_terms(batch).items()}


class _Mutates(_Bare):
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        batch.excluded[:] = True
        return super().loss_terms(batch)


class _ReadsPixels(_Bare):
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        extra = 0.0 if batch.images is None else batch.images.mean()
        return {name: term + extra for name, term in super().loss_terms(batch).items()}


class _LongQuery(_Bare):
    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        return 2 * super().encode_query(features, tokens)


class _Moody(_Bare):
    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        return unit(super().encode_query(features, tokens) + 0.1 * torch.rand(8))


class _NeedsMore(_Bare):
    needs: ClassVar[frozenset[str]] = frozenset({"query_tokens"})


class _NoDefault(_Bare):
    def __init__(self, components: Components, depth: int) -> None:
        super().__init__(components)
        self.depth = depth


class _Twice(_Bare):
    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return [*super().parameter_groups(lr), *super().parameter_groups(lr)]


class _Forgets(_Bare):
    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return [{"params": list(self.backbone.parameters()), "lr": lr}]


class _WantsPixels(_Bare):
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.images is not None
        return super().loss_terms(batch)


class _AsksForMore(_Bare):
    def encode_query(self, features: Features, tokens: Tokens) -> Tensor:
        result: Tensor = self.backbone.compose(features, tokens)
        return result


class _Stubborn(_Bare):
    def __init__(self, components: Components, *, depth: int = 0) -> None:
        super().__init__(components)
        raise KeyError(depth)


class _MisspeltSettings(_Bare):
    recipe = Recipe(source="nobody", datasets={"cirr": {"train.epohs": 3}})


class _NoSource(_Bare):
    recipe = Recipe(source=" ")


class _BadDifference(_Bare):
    recipe = Recipe(source="nobody", datasets={"cirr": {"epochs": 3}})


def test_the_plain_method_keeps_the_contract() -> None:
    check_method(Method, Toy())


def test_settings_out_of_range_cannot_be_made() -> None:
    """A plugin whose recipe has them is left out with this message as the reason."""
    message = r"^train\.lr cannot be -1\.0; accepted: a number above 0, up to 1000$"
    with pytest.raises(CIRError, match=message):
        TrainSettings(lr=-1.0)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (dict, "must be a class derived from cir_plugins.Method"),
        (_NotScalar, r"term 'loss' must have shape \(\), found \(4,\)"),
        (_Detached, "no gradient reaches the terms"),
        (_NotFinite, "term 'loss' holds NaN or infinite numbers"),
        (_Mutates, "terms changes its input 'excluded' in place"),
        (_ReadsPixels, "term 'loss' from features instead of pixels: off by"),
        (_LongQuery, "query must have unit length"),
        (_Moody, "query of the same input in evaluation mode: off by"),
        (_NeedsMore, "does not offer query_tokens"),
        (_NoDefault, "parameter 'depth' of .* needs a default"),
        (_Twice, "a parameter is in two parameter groups"),
        (
            _Forgets,
            r"leaves out 1 parameters that the gradient reaches, such as \['log_temperature'\]",
        ),
        (_WantsPixels, r"terms raises AssertionError on a batch that brings features instead of"),
        (
            _AsksForMore,
            "query raises AttributeError on features and tokens of 4 queries: .*compose",
        ),
        (_Stubborn, "_Stubborn raises KeyError on the components and the options {}: 0"),
        (_MisspeltSettings, r"settings for cirr: unknown \[train\] option 'epohs'"),
        (_NoSource, "the recipe's source is empty"),
        (_BadDifference, "'epochs' must be 'table.option'"),
    ],
)
def test_a_broken_method_contract_is_named(method: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_method(method, Toy())


def test_an_unbuilt_backbone_is_named() -> None:
    with pytest.raises(ContractError, match=r"the backbone must be built: give the check Toy\(\)"):
        check_method(Method, Toy)
