"""The contract of methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from cir_plugins.builtin.losses import InfoNCE
from cir_plugins.builtin.samplers import InBatch
from cir_plugins.config.resolve import recipe_config
from cir_plugins.config.settings import Recipe
from cir_plugins.config.toml import TABLES
from cir_plugins.errors import CIRError
from cir_plugins.features import select
from cir_plugins.method import Components, Method
from cir_plugins.plugins.declarations import NEEDS, OFFERS
from cir_plugins.testing.contract import (
    TEXTS,
    calling,
    pictures,
    require,
    require_built,
    require_close,
    require_finite,
    require_options,
    require_tensor,
    require_unchanged,
    require_unit,
)
from cir_plugins.testing.offers import require_known
from cir_plugins.types import Batch

_ROWS = 4
_CANDIDATES = 6
_IMAGES = 8


def check_method(
    method_class: type[Method],
    backbone: Any,
    *,
    loss: Any = None,
    sampler: Any = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Check that a method trains and retrieves as the host relies on.

    Terms are finite scalars by name whose gradient reaches what is trained; queries and targets
    have unit length and are the same each time in evaluation mode; the batch stays as it is, and
    one that brings features gives the terms of one that brings pixels; the parameter groups hold
    every parameter that the gradient reaches, once.

    Args:
        method_class: The class, with its recipe.
        backbone: A small backbone that offers what the method needs, built, on the CPU.
        loss: A loss; None for InfoNCE.
        sampler: A sampler; None for the whole batch.
        options: Options of the method that differ from its recipe's.
        seed: Of the made-up batch.

    Raises:
        ContractError: With what to fix.
    """
    is_method = isinstance(method_class, type) and issubclass(method_class, Method)
    require(is_method, f"{method_class!r} must be a class derived from cir_plugins.Method")
    check_recipe(method_class)
    require_built("backbone", backbone)
    lacking = sorted(NEEDS.of(method_class) - OFFERS.of(backbone))
    require(not lacking, f"the backbone of this check does not offer {', '.join(lacking)}")
    negatives = method_class.recipe.mining.negatives
    components = Components(backbone, loss or InfoNCE(), sampler or InBatch(), negatives)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with calling(
            method_class.__name__, f"the components and the options {dict(options or {})}"
        ):
            method = method_class(components, **{**method_class.recipe.options, **(options or {})})
        with calling(
            "preparing a batch",
            "the backbone's preprocess and tokenize, text_variants and caption_edit",
        ):
            batch = _batch(method, negatives != "batch", seed)
        _check_retrieval(method, batch)
        if method_class.trained:
            reached = _check_terms(method, batch)
            _check_features(method, batch)
            _check_groups(method, reached)


def check_recipe(method_class: type[Method]) -> None:
    """Check a method's declarations: recipe, needs and options; nothing is built."""
    require_options(method_class, required=("components",))
    recipe = getattr(method_class, "recipe", None)
    if not isinstance(recipe, Recipe):
        require(False, f"{method_class.__name__}.recipe must be a Recipe, not {recipe!r}")
        return
    require(bool(recipe.source.strip()), "the recipe's source is empty: name authors and paper")
    needs = method_class.needs
    require(isinstance(needs, frozenset), f"'needs' must be a frozenset, not {needs!r}")
    require_known("'needs'", needs)
    for data, differences in recipe.datasets.items():
        for key in differences:
            table, _, option = key.partition(".")
            good = table in TABLES and bool(option)
            require(good, f"recipe for {data}: '{key}' must be 'table.option', as 'train.epochs'")
        _check_settings(recipe, data)


def _check_settings(recipe: Recipe, data: str) -> None:
    """Nothing, if the recipe's settings for a data set can be made; its others are made already."""
    config = recipe_config(recipe, "", data)
    for table, settings in recipe.settings().items():
        try:
            type(settings)(**config[table])
        except CIRError as error:
            require(False, f"the recipe's settings for {data}: {error}")


def _batch(method: Method, mined: bool, seed: int) -> Batch:
    """Four queries whose references, targets and further candidates share images."""
    backbone = method.backbone
    texts = [TEXTS[index % len(TEXTS)] for index in range(_ROWS)]
    text_variants = {
        name: backbone.tokenize([caption_edit(text) for text in texts])
        for name, caption_edit in type(method).text_variants.items()
    }
    caption_edit = type(method).caption_edit
    texts = [caption_edit(text) for text in texts] if caption_edit else texts
    excluded = torch.zeros(_ROWS, _CANDIDATES, dtype=torch.bool)
    excluded[0, 1] = True
    drawn = torch.zeros(_ROWS, _CANDIDATES, dtype=torch.bool)
    drawn[:, _CANDIDATES - 1] = True
    pixels = torch.stack([backbone.preprocess(image) for image in pictures(_IMAGES, seed)])
    return Batch(
        images=pixels,
        features=None,
        reference=torch.tensor([6, 7, 0, 6]),
        candidates=torch.arange(_CANDIDATES),
        target=torch.arange(_ROWS),
        excluded=excluded,
        text=texts,
        tokens=backbone.tokenize(texts),
        mined=drawn if mined else None,
        text_variants=text_variants,
        triplet_index=torch.arange(_ROWS),
        changed=[("colour",), ("length", "shape"), (), ("pattern",)],
        image_index=torch.arange(_IMAGES),
    )


def _check_retrieval(method: Method, batch: Batch) -> None:
    method.eval()
    with torch.no_grad():
        with calling("features", "a batch of images"):
            features = method.features(batch)
        references = select(features, batch.reference)
        with calling("encode_query", f"features and tokens of {_ROWS} queries"):
            query = method.encode_query(references, batch.tokens)
            again = method.encode_query(references, batch.tokens)
        with calling("encode_gallery", f"features of {_CANDIDATES} candidates"):
            target = method.encode_gallery(select(features, batch.candidates))
        for name, value in (("query", query), ("target", target)):
            require(isinstance(value, Tensor), f"{name} must be a tensor, not {value!r:.80}")
        shapes = f"query {tuple(query.shape)} and target {tuple(target.shape)}"
        with calling("similarity", shapes):
            scores = method.similarity(query, target)
    require(query.dim() in (2, 3), f"query must be (B, D) or (B, S, D), found {tuple(query.shape)}")
    require_tensor("query", query, (_ROWS, *query.shape[1:]))
    require_tensor("target", target, (_CANDIDATES, *target.shape[1:]))
    require_unit("query", query)
    require_unit("target", target)
    require_tensor("similarity", scores, (_ROWS, _CANDIDATES))
    require_finite("similarity", scores)
    require_close("query of the same input in evaluation mode", again, query, 1e-6)


def _check_terms(method: Method, batch: Batch) -> frozenset[str]:
    """Names of the parameters that the terms' gradient reaches."""
    method.train()
    with calling("on_epoch", "the first epoch"):
        method.on_epoch(0, max(1, method.recipe.train.epochs))
    before = _tensors(batch)
    with calling("loss_terms", f"a batch of {_ROWS} queries with images"):
        terms = method.loss_terms(batch)
    require_unchanged("loss_terms", before, _tensors(batch))
    require(isinstance(terms, dict) and bool(terms), "terms must be a dict with one term or more")
    for name, value in terms.items():
        require(isinstance(name, str), f"the name of a term must be a string, not {name!r}")
        require_finite(f"term '{name}'", require_tensor(f"term '{name}'", value, ()))
    total = torch.stack(list(terms.values())).sum()
    require(total.requires_grad, "no gradient reaches the terms: is something detached?")
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    results = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    gradients = {n: g for n, g in zip(trained, results, strict=True) if g is not None}
    for name, gradient in gradients.items():
        require_finite(f"the gradient of '{name}'", gradient)
    moved = [name for name, gradient in gradients.items() if bool(gradient.any())]
    require(bool(moved), "no parameter of the method gets a gradient other than 0")
    return frozenset(gradients)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    values |= {f"tokens.{name}": value for name, value in batch.tokens.items()}
    return {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}


def _check_features(method: Method, batch: Batch) -> None:
    """Cached features replace pixels, so both must give the same terms (without dropout)."""
    method.eval()
    with torch.no_grad():
        state = torch.random.get_rng_state()
        with calling("loss_terms", "a batch with images, in evaluation mode"):
            expected = method.loss_terms(batch)
            features = method.features(batch)
        torch.random.set_rng_state(state)
        with calling(
            "loss_terms", "a batch that brings features instead of images (images is None)"
        ):
            terms = method.loss_terms(replace(batch, images=None, features=features))
    for name, value in expected.items():
        require(name in terms, f"term '{name}' is missing when the batch brings features")
        require_close(f"term '{name}' from features instead of pixels", terms[name], value, 1e-3)


def _check_groups(method: Method, reached: frozenset[str]) -> None:
    """A method may leave out what its stage computes without gradient, and nothing else."""
    with calling("parameter_groups", "the rate 0.001"):
        groups = method.parameter_groups(1e-3)
        ids = [id(parameter) for group in groups for parameter in group["params"]]
    names = {id(p): name for name, p in method.named_parameters() if p.requires_grad}
    require(all("lr" in group for group in groups), "a parameter group has no 'lr'")
    require(len(ids) == len(set(ids)), "a parameter is in two parameter groups")
    require(set(ids) <= set(names), "parameter_groups holds parameters that need no gradient")
    left = [name for key, name in names.items() if key not in ids and name in reached]
    require(
        not left,
        f"parameter_groups leaves out {len(left)} parameters that the gradient reaches, such as "
        f"{left[:3]}: they would never be trained; accepted: a group for them, or "
        "requires_grad_(False)",
    )
