"""Combinations that cannot work: all checks of a plan, made before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cir_plugins.errors import CIRError
from cir_plugins.plugins.declarations import (
    CHECK_COMPATIBILITY,
    IN_BATCH_ONLY,
    NEEDS,
    OFFERS,
    TRAINED,
)

if TYPE_CHECKING:
    from cir_plugins.config.plan import Plan
    from cir_plugins.config.toml import Config


def check_compatibility(plan: Plan) -> None:
    """Nothing, if the components and settings of a plan can work together.

    Raises:
        CIRError: With the first reason why they cannot.
    """
    for check in (
        *(_backbone_reasons, _method_reasons, _length_reasons),
        *(_filter_reasons, _negatives_reasons),
    ):
        for reason in check(plan):
            raise CIRError(reason)


def _backbone_reasons(plan: Plan) -> Iterator[str]:
    offers = OFFERS.of(plan.backbone.factory)
    missing = sorted(NEEDS.of(plan.method.factory) - offers)
    if missing:
        yield (
            f"method '{plan.method.name}' needs {', '.join(missing)}, which backbone "
            f"'{plan.backbone.name}' does not offer (it offers: {', '.join(sorted(offers)) or '-'})"
        )


def _method_reasons(plan: Plan) -> Iterator[str]:
    check = CHECK_COMPATIBILITY.of(plan.method.factory)
    with plan.method.guarded("cannot be checked"):
        reason = check(plan) if check else ""
    if reason:
        yield f"method '{plan.method.name}': {reason}"
    if plan.train.micro_batch:
        yield from _whole_batch_reasons(plan, f"train.micro_batch is {plan.train.micro_batch}")


def _length_reasons(plan: Plan) -> Iterator[str]:
    if plan.run.warm_start and not plan.train.epochs:
        yield (
            "run.warm_start is where training starts, but train.epochs is 0\n"
            "accepted: train.epochs of 1 or more; to evaluate the run: cir eval"
        )


def _filter_reasons(plan: Plan) -> Iterator[str]:
    mining = plan.mining
    if not plan.train.epochs:
        return
    if mining.filter == "corpus" and not hasattr(plan.sampler.factory, "ambiguous"):
        yield (
            f"mining.filter is 'corpus', but sampler '{plan.sampler.name}' does not mark what is "
            "ambiguous; accepted: mining.filter=batch, or a sampler with 'ambiguous', such as "
            "target_relative"
        )
    if mining.filter == "corpus" and mining.negatives == "mined":
        yield (
            "mining.filter is 'corpus', which filters the batch's columns, but mining.negatives is "
            "'mined'; accepted: mining.negatives=batch or both"
        )
    if mining.filter == "none" and mining.negatives != "both":
        yield (
            f"mining.filter is 'none', but mining.negatives is '{mining.negatives}', where the "
            "sampler would choose nothing or there is nothing to filter; accepted: "
            "mining.negatives=both, or sampler=in_batch with mining.negatives=batch"
        )
    if mining.with_reference and mining.negatives == "batch":
        yield (
            "mining.with_reference adds to mined negatives, but mining.negatives is 'batch'; "
            "accepted: mining.negatives=mined or both"
        )
    if mining.scored_by != "query" and not plan.training.refreshes:
        yield (
            f"mining.scored_by is '{mining.scored_by}', but the sampler filters the batch by its "
            "own scores; accepted: mining.scored_by=query, mining.negatives=mined or both, or "
            "mining.filter=corpus"
        )


def _negatives_reasons(plan: Plan) -> Iterator[str]:
    if not plan.train.epochs:
        return
    if plan.mining.negatives != "batch":
        if IN_BATCH_ONLY.of(plan.loss.factory):
            yield (
                f"loss '{plan.loss.name}' is symmetric, from each target to the batch's queries "
                "too, and mined negatives have none; accepted: mining.negatives=batch, or another "
                "loss"
            )
        return
    if plan.sampler.name == "random":
        yield (
            "sampler 'random' draws from the training images, but mining.negatives is 'batch'; "
            "accepted: mining.negatives=mined, or sampler 'in_batch'"
        )
    if plan.train.batch_size == 1:
        yield (
            "train.batch_size 1 leaves no negative in a batch, but mining.negatives is 'batch'; "
            "accepted: train.batch_size of 2 or more, or mining.negatives=mined"
        )


def check_unused(plan: Plan, config: Config) -> None:
    """Nothing, unless a loss or sampler is named for a method that has no use for it.

    Args:
        plan: The plan.
        config: The options of this very call, not those of a recipe, file or suite.

    Raises:
        CIRError: With the reason.
    """
    unused = [kind for kind in ("loss", "sampler") if kind in config]
    if unused and not TRAINED.of(plan.method.factory):
        raise CIRError(
            f"method '{plan.method.name}' is not trained, so that it has no use for a "
            f"{unused[0]}; accepted: leave it out, or a method that is trained"
        )


def check_whole_batches(plan: Plan, cause: str) -> None:
    """Nothing, if the method's batches can be embedded in micro-batches.

    Args:
        plan: The plan.
        cause: Why they are, such as ``2 processes share it``.

    Raises:
        CIRError: With the cause.
    """
    for reason in _whole_batch_reasons(plan, cause):
        raise CIRError(reason)


def _whole_batch_reasons(plan: Plan, cause: str) -> Iterator[str]:
    # A factory that is a function, not the class, is checked when the method is built.
    supports: Callable[[], Any] | None = getattr(
        plan.method.factory, "supports_micro_batches", None
    )
    if supports is not None and not supports():
        yield whole_batch_message(plan.method.name, cause)


def whole_batch_message(method: str, cause: str) -> str:
    """The message that a method needs a batch whole where it is embedded in micro-batches."""
    return (
        f"method '{method}' computes its terms on a whole batch, but {cause}; accepted: "
        "train.micro_batch=0 in one process, or a method that overrides loss_terms_from only"
    )
