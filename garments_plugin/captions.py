"""Captions of the change from a reference garment to a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from garments_plugin.kinds import KINDS, LENGTHS, SLEEVES
from garments_plugin.palette import SHADES, luminance
from garments_plugin.words import (
    HINTS,
    LENGTH_CLAUSES,
    PATTERN_CLAUSES,
    PATTERN_NOUNS,
    SLEEVE_CLAUSES,
    WORDS,
)

Attributes = Mapping[str, str]


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def colour_word(colour: str, rng: np.random.Generator) -> str:
    """The colour as written; grey is spelled gray about every third time."""
    return "gray" if colour == "grey" and rng.random() < 0.35 else colour


def noun(garment: str, rng: np.random.Generator, adjectives: str = "") -> str:
    """The garment with article and adjectives: "a pair of red shorts", "an orange cap"."""
    word = _pick(WORDS.get(garment, (garment,)), rng)
    words = f"{adjectives} {word}".strip()
    if KINDS[garment].plural:
        return f"a pair of {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _bare_noun(garment: str, rng: np.random.Generator) -> str:
    return _pick(WORDS.get(garment, (garment,)), rng)


def clause(name: str, target: Attributes, rng: np.random.Generator) -> str:
    """A short statement of one attribute of the target: "is red", "has stripes"."""
    value = target[name]
    if name == "colour":
        word = colour_word(value, rng)
        return _pick((f"is {word}", f"comes in {word}", f"has a {word} color"), rng)
    if name == "garment":
        return f"is {noun(value, rng)}"
    clauses = {"pattern": PATTERN_CLAUSES, "sleeve": SLEEVE_CLAUSES, "length": LENGTH_CLAUSES}
    return _pick(clauses[name][value], rng)


def _colour_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    new, old = colour_word(target["colour"], rng), colour_word(reference["colour"], rng)
    thing = _bare_noun(target["garment"], rng)
    return _pick(
        (
            f"is {new} instead of {old}",
            f"is {new} where the other is {old}",
            f"make it {new}",
            f"swaps {old} for {new}",
            f"the same {thing} in {new}",
            f"same style in {new}",
            f"is {new}, not {old}",
            f"comes in {new}",
            f"should be {new}",
            f"turns from {old} to {new}",
            f"is {new}",
        ),
        rng,
    )


def _garment_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    new, old = noun(target["garment"], rng), noun(reference["garment"], rng)
    shade = colour_word(target["colour"], rng)
    return _pick(
        (
            f"is {new}",
            f"is {new} instead of {old}",
            f"is {new}, not {old}",
            f"the same color on {new}",
            f"turns into {new}",
            f"show me {new} like this",
            f"{new} in the same {shade}",
            f"is also {shade} but {new}",
        ),
        rng,
    )


def _pattern_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    new, old = target["pattern"], reference["pattern"]
    statement = clause("pattern", target, rng)
    if old == "plain":
        options = (statement, f"{statement} instead of being plain", f"adds {PATTERN_NOUNS[new]}")
        return _pick(options, rng)
    if new == "plain":
        return _pick((statement, f"{statement}, without {PATTERN_NOUNS[old]}"), rng)
    both = f"has {PATTERN_NOUNS[new]} instead of {PATTERN_NOUNS[old]}"
    return _pick((statement, both), rng)


def _sleeve_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    statement = clause("sleeve", target, rng)
    if reference.get("sleeve") is None or target["sleeve"] == "none":
        return statement
    longer = SLEEVES.index(target["sleeve"]) > SLEEVES.index(reference["sleeve"])
    relative = f"the sleeves are {'longer' if longer else 'shorter'}: {target['sleeve']} ones"
    return _pick((statement, statement, relative), rng)


def _length_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    statement = clause("length", target, rng)
    if "length" not in reference:
        return statement
    longer = LENGTHS.index(target["length"]) > LENGTHS.index(reference["length"])
    return _pick((statement, f"is {'longer' if longer else 'shorter'} and {statement}"), rng)


_CHANGES = MappingProxyType(
    {
        "colour": _colour_change,
        "garment": _garment_change,
        "pattern": _pattern_change,
        "sleeve": _sleeve_change,
        "length": _length_change,
    }
)


def _adjectives(target: Attributes, changed: Sequence[str], rng: np.random.Generator) -> str:
    words = []
    if "length" in changed:
        words.append({"knee": "knee length"}.get(target["length"], target["length"]))
    if "pattern" in changed:
        words.append(target["pattern"])
    if "colour" in changed:
        words.append(colour_word(target["colour"], rng))
    return " ".join(words)


def _description(target: Attributes, changed: Sequence[str], rng: np.random.Generator) -> str:
    """One noun phrase with every changed attribute: "is a striped red dress"."""
    phrase = f"is {noun(target['garment'], rng, _adjectives(target, changed, rng))}"
    if "sleeve" in changed:
        phrase += {"none": " without sleeves"}.get(
            target["sleeve"], f" with {target['sleeve']} sleeves"
        )
    return phrase


def full_caption(
    reference: Attributes, target: Attributes, changed: Sequence[str], rng: np.random.Generator
) -> str:
    """A sentence with the target's value of every changed attribute."""
    if len(changed) == 1:
        return _CHANGES[changed[0]](reference, target, rng)
    if "garment" in changed and (len(changed) > 2 or rng.random() < 0.6):
        sentence = _description(target, changed, rng)
        if len(changed) == 2 and rng.random() < 0.35:
            sentence += f" instead of {noun(reference['garment'], rng)}"
        return sentence
    if len(changed) > 2:
        return " and ".join(clause(name, target, rng) for name in changed)
    first, second = changed if rng.random() < 0.5 else tuple(reversed(changed))
    if first == "colour" and rng.random() < 0.5:
        old, new = colour_word(reference["colour"], rng), colour_word(target["colour"], rng)
        return f"is {new} instead of {old} and {clause(second, target, rng)}"
    return f"{clause(first, target, rng)} and {clause(second, target, rng)}"


def _span(colour: str) -> tuple[float, float]:
    """The lowest and highest luminance of a colour's shades, drawing's changes included."""
    values = [luminance(shade) for shade in SHADES[colour]]
    return 0.9 * min(values), 1.1 * max(values)


def _lightness(reference: Attributes, target: Attributes) -> str | None:
    """The word for a change of lightness if it holds for all shades of the two names."""
    (low, high), (new_low, new_high) = _span(reference["colour"]), _span(target["colour"])
    if new_high < low:
        return "darker"
    return "lighter" if new_low > high else None


def _side_caption(
    reference: Attributes, target: Attributes, changed: Sequence[str], rng: np.random.Generator
) -> str:
    """A sentence that is true of the change but may be incomplete."""
    options = [clause(name, target, rng) for name in changed]
    if "garment" in changed:
        options.append(_pick(HINTS[target["garment"]], rng))
    tone = _lightness(reference, target) if "colour" in changed else None
    if tone:
        options.append(_pick((f"is {tone}", f"has a {tone} color", f"is {tone} in tone"), rng))
    if "sleeve" in changed and "sleeve" in reference:
        longer = SLEEVES.index(target["sleeve"]) > SLEEVES.index(reference["sleeve"])
        options.append(f"has {'longer' if longer else 'shorter'} sleeves")
    if "length" in changed and "length" in reference:
        longer = LENGTHS.index(target["length"]) > LENGTHS.index(reference["length"])
        options.append(f"is {'longer' if longer else 'shorter'}")
    return _pick(options, rng)


def captions(
    reference: Attributes, target: Attributes, changed: Sequence[str], rng: np.random.Generator
) -> tuple[str, str]:
    """Two different sentences for one change.

    At least one has the target's value of every changed attribute; the other may be partial
    ("is darker", "has a hood").

    Args:
        reference: Attributes of the reference image.
        target: Attributes of the target image.
        changed: The changed attributes, one or more.
        rng: Source of the wording.
    """
    first = full_caption(reference, target, changed, rng)
    second = first
    while second == first:
        caption = _side_caption if rng.random() < 0.45 else full_caption
        second = caption(reference, target, changed, rng)
    return (first, second) if rng.random() < 0.5 else (second, first)
