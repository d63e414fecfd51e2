from __future__ import annotations

import pytest

from cir_plugins.audits.paraphrase import RULES, Rule, paraphrased


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rules_do_what_their_example_says(rule: Rule) -> None:
    before, after = rule.example
    assert rule(before) == after != before


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rules_leave_other_captions_alone(rule: Rule) -> None:
    for caption in ("", "darker red with long sleeves", "zzz", "the same dress, but in blue"):
        assert rule(caption) == caption


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Is Red", "It is Red"),
        ("two-piece, 3/4 sleeves, 2.5 cm", "two-piece, 3/4 sleeves, 2.5 cm"),
        ("red as well as blue", "red as well as blue"),
        ("has  no sleeves", "it has got no sleeves"),
        ("it is sleeveless dress", "it is sleeveless dress"),
        ("is not gray", "it isn't grey"),
        ("discolored photographer", "discolored photographer"),
        ("This is the 12 dogs PHOTO", "This is the twelve dogs Picture"),
    ],
)
def test_all_rules_together(caption: str, expected: str) -> None:
    """Words inside others, fractions and compounds are no matches."""
    assert paraphrased(caption)[0] == expected


def test_names_of_the_rules_that_matched() -> None:
    assert paraphrased("is gray and bigger")[1] == ("subject", "spelling", "size")
    assert paraphrased("darker")[1] == ()


def test_no_two_rules_have_one_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
