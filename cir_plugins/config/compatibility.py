"""Combinations that cannot work, refused before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cir_plugins.errors import CIRError

if TYPE_CHECKING:
    from cir_plugins.config.plan import Plan
    from cir_plugins.config.toml import Config


def check_compatibility(plan: Plan) -> None:
    """Refuse combinations that cannot work, before anything is built.

    Raises:
        CIRError: With the reason.
    """
    needs = frozenset(getattr(plan.method.factory, "needs", ()))
    offers = frozenset(getattr(plan.backbone.factory, "offers", ()))
    missing = sorted(needs - offers)
    if missing:
        raise CIRError(
            f"method '{plan.method.name}' needs {', '.join(missing)}, which backbone "
            f"'{plan.backbone.name}' does not offer (it offers: {', '.join(sorted(offers)) or '-'})"
        )
    refuse = getattr(plan.method.factory, "check_compatibility", None)
    reason = refuse(plan) if refuse else ""
    if reason:
        raise CIRError(f"method '{plan.method.name}': {reason}")
    train = plan.train
    if train.micro_batch:
        check_micro_batching(plan, f"train.micro_batch is {train.micro_batch}")
    if plan.run.warm_start and not train.epochs:
        raise CIRError(
            "run.warm_start is where training starts, but train.epochs is 0: see cir eval"
        )
    if not train.epochs:
        return
    negatives = plan.mining.negatives
    if negatives != "batch":
        if getattr(plan.loss.factory, "in_batch_only", False):
            raise CIRError(
                f"loss '{plan.loss.name}' asks back from each target to the batch's queries, and "
                "mined negatives have none; accepted: mining.negatives=batch, or another loss"
            )
        return
    if plan.sampler.name == "random":
        raise CIRError(
            "sampler 'random' draws from the training images, but mining.negatives is 'batch'; "
            "accepted: --set mining.negatives=mined, or sampler 'in_batch'"
        )
    if train.batch_size == 1:
        raise CIRError(
            "train.batch_size 1 leaves no negative in a batch, but mining.negatives is 'batch'; "
            "accepted: train.batch_size of 2 or more, or mining.negatives=mined"
        )


def check_unused(plan: Plan, given: Config) -> None:
    """Refuse a loss or sampler that was asked for where the method has no use for it.

    Args:
        plan: The plan.
        given: What was asked for in this very call, not by a recipe, file or suite.

    Raises:
        CIRError: With the reason.
    """
    unused = [kind for kind in ("loss", "sampler") if kind in given]
    if unused and not getattr(plan.method.factory, "trained", True):
        raise CIRError(
            f"method '{plan.method.name}' is not trained, so that it has no use for --set "
            f"{unused[0]}; accepted: leave it out, or a method that is trained"
        )


def check_micro_batching(plan: Plan, cause: str) -> None:
    """Refuse a method that needs its batches whole where they would be embedded in micro-batches.

    Raises:
        CIRError: With the cause.
    """
    supports_micro_batches = getattr(plan.method.factory, "supports_micro_batches", None)
    if supports_micro_batches is not None and not supports_micro_batches():
        raise CIRError(
            f"method '{plan.method.name}' computes its terms on a whole batch, but {cause}; "
            "accepted: train.micro_batch=0 in one process, or a method that overrides loss_terms_from only"
        )
