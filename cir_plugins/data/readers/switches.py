"""The caption switches of a reader, checked."""

from __future__ import annotations

from string import Formatter
from typing import Literal

from cir_plugins.data.captions import Captions, JoinMode
from cir_plugins.errors import CIRError

Symbols = Literal["keep", "blank", "words"]


class CaptionSwitches:
    """The caption switches that every reader has beside its own options.

    No dataclass itself: each reader declares them with its own defaults, in its own place.
    """

    strip: bool
    capitalise: bool
    lower: bool
    symbols: Symbols
    max_words: int
    prefix: str

    def caption_rules(self, mode: JoinMode = "and") -> Captions:
        """The switches as ``Captions``, for captions that are joined so.

        Raises:
            CIRError: As ``caption_rules``.
        """
        return caption_rules(
            mode=mode,
            strip=self.strip,
            capitalise=self.capitalise,
            lower=self.lower,
            symbols=self.symbols,
            max_words=self.max_words,
            prefix=self.prefix,
        )


def caption_rules(
    *,
    mode: JoinMode,
    strip: bool,
    capitalise: bool,
    lower: bool,
    symbols: Symbols,
    max_words: int,
    prefix: str,
) -> Captions:
    """The switches as ``Captions``.

    Raises:
        CIRError: ``prefix`` has no single ``{}``, or ``max_words`` is below 0.
    """
    try:
        fields = [field[1:] for field in Formatter().parse(prefix) if field[1] is not None]
    except ValueError:
        fields = []
    if fields != [("", "", None)]:
        accepted = "accepted: one {} for the text, such as 'a photo of $ that {}'"
        raise CIRError(f"prefix is '{prefix}'\n{accepted}")
    if max_words < 0:
        raise CIRError(f"max_words is {max_words}\naccepted: 0 for all words, or a number above it")
    return Captions(mode, strip, capitalise, lower, symbols, max_words, prefix)
