"""How the captions of a triplet become the text of a query.

Every published repository joins FashionIQ's two captions in another way, and the way moves recall
by points; each choice is a switch here, independent of the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from string import Formatter
from typing import Literal

from cir_plugins.errors import CIRError
from cir_plugins.plugins.ranges import CountOrNone

JoinMode = Literal["and", "both_orders", "single", "four_way", "category_and_it", "space"]
Symbols = Literal["keep", "blank", "words"]
_STRIPPED = ".?, "
_LAVIS_SYMBOLS = re.compile(r"[.!\"()*#:;~]")
_SYMBOL_WORDS = {".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"}


@dataclass(frozen=True, kw_only=True)
class CaptionSwitches:
    """What is done to captions, whatever way they are joined.

    Readers inherit these options and set their defaults.

    Attributes:
        strip: Remove ``.?,`` and blanks at both ends of each caption.
        capitalise: First letter of the text upper-case, the rest of its first caption lower-case.
        lower: Lower-case the text.
        symbols: ``keep``; ``blank``: each of ``. ! " ( ) * # : ; ~`` becomes a blank, runs of
            blanks collapse; ``words``: ``. ? & *`` become ``dotmark`` and so on.
        max_words: Words kept, 0 for all.
        prefix: Template with ``{}`` for the text, such as ``a photo of $ that {}``.
    """

    strip: bool = True
    capitalise: bool = False
    lower: bool = False
    symbols: Symbols = "keep"
    max_words: CountOrNone = 0
    prefix: str = "{}"

    def caption_rules(self, mode: JoinMode = "and") -> Captions:
        """These switches for captions that are joined so.

        Raises:
            CIRError: ``prefix`` has no single ``{}``, or ``max_words`` is below 0.
        """
        _check_prefix(self.prefix)
        if self.max_words < 0:
            raise CIRError(
                f"max_words is {self.max_words}\naccepted: 0 for all words, or a number above it"
            )
        return Captions(mode, **{name: getattr(self, name) for name in CAPTION_SWITCHES})


CAPTION_SWITCHES = tuple(field.name for field in fields(CaptionSwitches))


def _check_prefix(prefix: str) -> None:
    try:
        fields_of_prefix = [each[1:] for each in Formatter().parse(prefix) if each[1] is not None]
    except ValueError:
        fields_of_prefix = []
    if fields_of_prefix != [("", "", None)]:
        accepted = "accepted: one {} for the text, such as 'a photo of $ that {}'"
        raise CIRError(f"prefix is '{prefix}'\n{accepted}")


@dataclass(frozen=True)
class Captions(CaptionSwitches):
    """How the captions of a triplet become the text of a query.

    Attributes:
        mode: ``and``: "c1 and c2", one query. ``both_orders``: "c1 and c2" and "c2 and c1", two
            queries. ``single``: each caption alone, one query each. ``four_way``: in training one
            of "c1 and c2", "c2 and c1", "c1", "c2", equally often, elsewhere "c1 and c2".
            ``category_and_it``: "category c1 and it c2". ``space``: joined by a blank.

    Source: the official repositories of CLIP4Cir, CoSMo, MGUR, VAL, ComposeAE, CoVR, QuRe, SPRC.
    """

    mode: JoinMode = "and"

    def texts(
        self,
        captions: Sequence[str],
        category: str = "",
        caption_edit: Callable[[str], str] | None = None,
    ) -> tuple[str, ...]:
        """The texts of a triplet outside training: two in the two-query modes, else one.

        Args:
            captions: One or more; empty ones are left out where another is there to use.
            category: Needed by ``category_and_it``.
            caption_edit: Applied to every raw caption first (direction tags, for example).
        """
        cleaned = self._cleaned(captions, caption_edit)
        if len(cleaned) < 2:
            return (self._finish(cleaned, category),)
        if self.mode == "both_orders":
            return self._finish(cleaned, category), self._finish(cleaned[::-1], category)
        if self.mode == "single":
            return tuple(self._finish([text], category) for text in cleaned)
        return (self._finish(cleaned, category),)

    def draw(
        self,
        captions: Sequence[str],
        category: str,
        order: int,
        rng: random.Random,
        caption_edit: Callable[[str], str] | None = None,
    ) -> str:
        """The text of a training triplet; ``order`` is its position among the query's texts."""
        cleaned = self._cleaned(captions, caption_edit)
        if self.mode != "four_way" or len(cleaned) < 2:
            texts = self.texts(captions, category, caption_edit)
            return texts[order % len(texts)]
        readings = (cleaned, cleaned[::-1], cleaned[:1], cleaned[1:])
        return self._finish(readings[rng.randrange(4)], category)

    def _cleaned(
        self, captions: Sequence[str], caption_edit: Callable[[str], str] | None
    ) -> list[str]:
        edited = [caption_edit(caption) if caption_edit else caption for caption in captions]
        cleaned = [text.strip(_STRIPPED) if self.strip else text for text in edited]
        return [text for text in cleaned if text.strip()] or cleaned[:1]

    def _finish(self, captions: list[str], category: str) -> str:
        first = captions[0].capitalize() if self.capitalise else captions[0]
        joined = [first, *captions[1:]]
        if self.mode == "category_and_it":
            text = f"{category} {' and it '.join(joined)}".strip()
        else:
            text = (" " if self.mode == "space" else " and ").join(joined)
        text = self.prefix.format(text)
        return self.clean(text)

    def clean(self, text: str) -> str:
        """The text with the symbol, case and length switches applied."""
        if self.lower:
            text = text.lower()
        if self.symbols == "blank":
            text = " ".join(_LAVIS_SYMBOLS.sub(" ", text).split())
        elif self.symbols == "words":
            for symbol, word in _SYMBOL_WORDS.items():
                text = text.replace(symbol, word)
        if self.max_words:
            text = " ".join(text.split()[: self.max_words])
        return text
