"""How the captions of a triplet become the text of a query.

Every published repository joins FashionIQ's two captions in its own way, and the way moves recall
by points; each choice is a switch here, independent of the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

JoinMode = Literal["and", "both_orders", "single", "four_way", "category_and_it", "space"]
_STRIPPED = ".?, "
_LAVIS_SYMBOLS = re.compile(r"[.!\"()*#:;~]")
_SYMBOL_WORDS = {".": "dotmark", "?": "questionmark", "&": "andmark", "*": "starmark"}


@dataclass(frozen=True)
class Captions:
    """Switches for joining captions.

    Attributes:
        mode: ``and``: "c1 and c2", one query. ``both_orders``: "c1 and c2" and "c2 and c1", two
            queries. ``single``: each caption alone, one query each. ``four_way``: in training one
            of "c1 and c2", "c2 and c1", "c1", "c2" with equal chance, elsewhere "c1 and c2".
            ``category_and_it``: "category c1 and it c2". ``space``: joined by a blank.
        strip: Remove ``.?,`` and blanks at both ends of each caption.
        capitalise: First letter of the text upper-case, the rest of its first caption lower-case.
        lower: Lower-case the text.
        symbols: ``keep``; ``blank``: each of ``. ! " ( ) * # : ; ~`` becomes a blank, runs of
            blanks collapse; ``words``: ``. ? & *`` become ``dotmark`` and so on.
        max_words: Words kept, 0 for all.
        prefix: Template with ``{}`` for the text, such as "a photo of $ that {}".

    Source: the official repositories of CLIP4Cir, CoSMo, MGUR, VAL, ComposeAE, CoVR, QuRe, SPRC.
    """

    mode: JoinMode = "and"
    strip: bool = True
    capitalise: bool = False
    lower: bool = False
    symbols: Literal["keep", "blank", "words"] = "keep"
    max_words: int = 0
    prefix: str = "{}"

    def texts(
        self,
        captions: Sequence[str],
        category: str = "",
        caption_edit: Callable[[str], str] | None = None,
    ) -> tuple[str, ...]:
        """The texts asked of a triplet outside training: two for the two-query modes, else one.

        Args:
            captions: One or more; empty ones are left out where another is there to use.
            category: Needed by ``category_and_it``.
            caption_edit: Applied to every raw caption before anything else (direction tags, for example).
        """
        parts = self._parts(captions, caption_edit)
        if len(parts) < 2:
            return (self._finish(parts, category),)
        if self.mode == "both_orders":
            return self._finish(parts, category), self._finish(parts[::-1], category)
        if self.mode == "single":
            return tuple(self._finish([part], category) for part in parts)
        return (self._finish(parts, category),)

    def draw(
        self,
        captions: Sequence[str],
        category: str,
        order: int,
        chance: random.Random,
        caption_edit: Callable[[str], str] | None = None,
    ) -> str:
        """The text of a training row; ``order`` says which of the triplet's texts the row is."""
        parts = self._parts(captions, caption_edit)
        if self.mode != "four_way" or len(parts) < 2:
            texts = self.texts(captions, category, caption_edit)
            return texts[order % len(texts)]
        choice = chance.randrange(4)
        chosen = (parts, parts[::-1], parts[:1], parts[1:])[choice]
        return self._finish(list(chosen), category)

    def _parts(
        self, captions: Sequence[str], caption_edit: Callable[[str], str] | None
    ) -> list[str]:
        edited = [caption_edit(caption) if caption_edit else caption for caption in captions]
        parts = [part.strip(_STRIPPED) if self.strip else part for part in edited]
        return [part for part in parts if part.strip()] or parts[:1]

    def _finish(self, parts: list[str], category: str) -> str:
        first = parts[0].capitalize() if self.capitalise else parts[0]
        words = [first, *parts[1:]]
        if self.mode == "category_and_it":
            text = f"{category} {' and it '.join(words)}".strip()
        else:
            text = (" " if self.mode == "space" else " and ").join(words)
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
