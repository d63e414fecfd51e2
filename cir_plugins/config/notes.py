"""Notes on a plan: settings that work and probably do not do what they are meant to."""

from __future__ import annotations

from cir_plugins.config.plan import Plan
from cir_plugins.config.resolve import recipe_config, recipe_of
from cir_plugins.plugins.declarations import SUGGESTED_LR, TRAINED

# A learning rate lower than a backbone's suggested one by this factor teaches it nothing.
TOO_LOW = 20


def notes(plan: Plan) -> list[str]:
    """One sentence for each setting of a plan that probably has not the intended effect."""
    if not plan.train.epochs or not TRAINED.of(plan.method.factory):
        return []
    checks = (_unused_sampler, _published_rate, _only_warm_start)
    return [note for check in checks if (note := check(plan))]


def _unused_sampler(plan: Plan) -> str:
    train = plan.train
    first = plan.training.first_refresh
    if plan.mining.negatives != "mined" or plan.sampler.name == "random" or first < train.epochs:
        return ""
    if train.warm_start_epochs == train.epochs:
        return ""  # said as such
    epochs = "1 epoch" if train.epochs == 1 else f"{train.epochs} epochs"
    return (
        f"sampler '{plan.sampler.name}' is never used: all negatives are drawn at random, as "
        f"mining with the model starts after {first} epochs and training has {epochs}; "
        "to use it: --set mining.start=0, a smaller mining.every, or more train.epochs"
    ).replace("after 1 epochs", "after 1 epoch")


def _only_warm_start(plan: Plan) -> str:
    train = plan.train
    if train.warm_start_epochs < train.epochs:
        return ""
    return (
        "the method's own loss and negatives are never used: all epochs are of the warm start; "
        "to use them: more train.epochs, or a lower train.warm_start"
    )


def _published_rate(plan: Plan) -> str:
    """A note where the recipe's learning rate of a large backbone meets a small one."""
    suggested = SUGGESTED_LR.of(plan.backbone.factory)
    recipe = recipe_of(plan.method.factory)
    published = recipe_config(recipe, plan.method.name, plan.data.name)["train"]["lr"]
    if plan.train.lr != published or published * TOO_LOW > suggested:
        return ""
    return (
        f"train.lr {published:g} was published for backbone '{recipe.backbone.name}'; with "
        f"'{plan.backbone.name}' little is learned; try --set train.lr={suggested:g}"
    )
