"""Sentences that say how a target garment differs from its reference."""

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
    """Return the colour as written; grey is spelled gray about every third time."""
    return "gray" if colour == "grey" and rng.random() < 0.35 else colour


def noun(garment: str, rng: np.random.Generator, adjectives: str = "") -> str:
    """Return the garment with article and adjectives: "a pair of red shorts", "an orange cap"."""
    word = _pick(WORDS.get(garment, (garment,)), rng)
    words = f"{adjectives} {word}".strip()
    if KINDS[garment].plural:
        return f"a pair of {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _bare_noun(garment: str, rng: np.random.Generator) -> str:
    return _pick(WORDS.get(garment, (garment,)), rng)


def clause(name: str, target: Attributes, rng: np.random.Generator) -> str:
    """Return a short statement of one attribute of the target: "is red", "has stripes"."""
    value = target[name]
    if name == "colour":
        word = colour_word(value, rng)
        return _pick((f"is {word}", f"comes in {word}", f"has a {word} color"), rng)
    if name == "garment":
        return f"is {noun(value, rng)}"
    tables = {"pattern": PATTERN_CLAUSES, "sleeve": SLEEVE_CLAUSES, "length": LENGTH_CLAUSES}
    return _pick(tables[name][value], rng)


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
    said = clause("pattern", target, rng)
    if old == "plain":
        return _pick((said, f"{said} instead of being plain", f"adds {PATTERN_NOUNS[new]}"), rng)
    if new == "plain":
        return _pick((said, f"{said}, without {PATTERN_NOUNS[old]}"), rng)
    both = f"has {PATTERN_NOUNS[new]} instead of {PATTERN_NOUNS[old]}"
    return _pick((said, both), rng)


def _sleeve_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    said = clause("sleeve", target, rng)
    if reference.get("sleeve") is None or target["sleeve"] == "none":
        return said
    longer = SLEEVES.index(target["sleeve"]) > SLEEVES.index(reference["sleeve"])
    relative = f"the sleeves are {'longer' if longer else 'shorter'}: {target['sleeve']} ones"
    return _pick((said, said, relative), rng)


def _length_change(reference: Attributes, target: Attributes, rng: np.random.Generator) -> str:
    said = clause("length", target, rng)
    if "length" not in reference:
        return said
    longer = LENGTHS.index(target["length"]) > LENGTHS.index(reference["length"])
    return _pick((said, f"is {'longer' if longer else 'shorter'} and {said}"), rng)


_CHANGES = MappingProxyType(
    {
        "colour": _colour_change,
        "garment": _garment_change,
        "pattern": _pattern_change,
        "sleeve": _sleeve_change,
        "length": _length_change,
    }
)


def _adjectives(target: Attributes, named: Sequence[str], rng: np.random.Generator) -> str:
    words = []
    if "length" in named:
        words.append({"knee": "knee length"}.get(target["length"], target["length"]))
    if "pattern" in named:
        words.append(target["pattern"])
    if "colour" in named:
        words.append(colour_word(target["colour"], rng))
    return " ".join(words)


def _description(target: Attributes, named: Sequence[str], rng: np.random.Generator) -> str:
    """Return one noun phrase with every named attribute: "is a striped red dress"."""
    phrase = f"is {noun(target['garment'], rng, _adjectives(target, named, rng))}"
    if "sleeve" in named:
        phrase += {"none": " without sleeves"}.get(
            target["sleeve"], f" with {target['sleeve']} sleeves"
        )
    return phrase


def full_caption(
    reference: Attributes, target: Attributes, named: Sequence[str], rng: np.random.Generator
) -> str:
    """Return a sentence that states the target's value of every attribute in ``named``."""
    if len(named) == 1:
        return _CHANGES[named[0]](reference, target, rng)
    if "garment" in named and (len(named) > 2 or rng.random() < 0.6):
        said = _description(target, named, rng)
        if len(named) == 2 and rng.random() < 0.35:
            said += f" instead of {noun(reference['garment'], rng)}"
        return said
    if len(named) > 2:
        return " and ".join(clause(name, target, rng) for name in named)
    first, second = named if rng.random() < 0.5 else tuple(reversed(named))
    if first == "colour" and rng.random() < 0.5:
        old, new = colour_word(reference["colour"], rng), colour_word(target["colour"], rng)
        return f"is {new} instead of {old} and {clause(second, target, rng)}"
    return f"{clause(first, target, rng)} and {clause(second, target, rng)}"


def _span(colour: str) -> tuple[float, float]:
    """Return the lowest and highest luminance of a colour's shades, drawing's changes included."""
    values = [luminance(shade) for shade in SHADES[colour]]
    return 0.9 * min(values), 1.1 * max(values)


def _lightness(reference: Attributes, target: Attributes) -> str | None:
    """Return "darker" or "lighter" where every shade of the two names bears it out."""
    (low, high), (new_low, new_high) = _span(reference["colour"]), _span(target["colour"])
    if new_high < low:
        return "darker"
    return "lighter" if new_low > high else None


def _side_caption(
    reference: Attributes, target: Attributes, named: Sequence[str], rng: np.random.Generator
) -> str:
    """Return a sentence that is true of the change but may leave a part of it open."""
    options = [clause(name, target, rng) for name in named]
    if "garment" in named:
        options.append(_pick(HINTS[target["garment"]], rng))
    tone = _lightness(reference, target) if "colour" in named else None
    if tone:
        options.append(_pick((f"is {tone}", f"has a {tone} color", f"is {tone} in tone"), rng))
    if "sleeve" in named and "sleeve" in reference:
        longer = SLEEVES.index(target["sleeve"]) > SLEEVES.index(reference["sleeve"])
        options.append(f"has {'longer' if longer else 'shorter'} sleeves")
    if "length" in named and "length" in reference:
        longer = LENGTHS.index(target["length"]) > LENGTHS.index(reference["length"])
        options.append(f"is {'longer' if longer else 'shorter'}")
    return _pick(options, rng)


def captions(
    reference: Attributes, target: Attributes, named: Sequence[str], rng: np.random.Generator
) -> tuple[str, str]:
    """Return two different sentences for one change.

    At least one names the target's value of every changed attribute; the other may be partial
    ("is darker", "has a hood").

    Args:
        reference: Attributes of the reference image.
        target: Attributes of the target image.
        named: The attributes that the change is about, one or more.
        rng: Source of the wording.
    """
    first = full_caption(reference, target, named, rng)
    second = first
    while second == first:
        say = _side_caption if rng.random() < 0.45 else full_caption
        second = say(reference, target, named, rng)
    return (first, second) if rng.random() < 0.5 else (second, first)
