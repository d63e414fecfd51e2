"""Vocabularies for official checkpoints: CoSMo's pickle, TIRG's training texts.

The pickle is read without importing or calling the classes that it names.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from baselines_plugin.backbones.vocabulary import learn_words
from cir_plugins import CIRError, read_text

SPECIALS = 4  # ids of padding, unknown, begin and end
_CLASS = ("language.vocabulary", "SimpleVocabulary")
# Dictionary classes that may hold the counts; read as plain dictionaries.
_TABLES = frozenset(
    {("collections", "Counter"), ("collections", "OrderedDict"), ("collections", "defaultdict")}
)
# The default of a dictionary, and the tokeniser of the vocabulary: names only, ignored.
_IGNORED = MappingProxyType({"builtins": frozenset({"int"}), "nltk": None, "language": None})
# Errors of a damaged or hostile pickle.
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError)
_DAMAGE_TOO = (AttributeError, OverflowError, MemoryError, RecursionError)


class _Record:
    """Stand-in for an object of the pickle, with its attributes."""

    def __init__(self, *arguments: Any) -> None:
        del arguments


class _Table(dict[Any, Any]):
    """Stand-in for a dictionary of the pickle."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(table for table in arguments if isinstance(table, Mapping)))


class _Reader(pickle.Unpickler):
    """An unpickler of plain values, with stand-ins for every class."""

    def find_class(self, module: str, name: str) -> type:
        """A stand-in for a class of the accepted ones.

        Raises:
            UnpicklingError: For any other name.
        """
        if (module, name) == _CLASS:
            return type(name, (_Record,), {"official": True})
        if (module, name) in _TABLES:
            return type("Table", (_Table,), {})
        package = module.partition(".")[0]
        names = _IGNORED.get(package, frozenset())
        if names is None or name in names:
            return type("Ignored", (_Record,), {})
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_words(path: Path) -> tuple[str, ...]:
    """The words of an official vocabulary pickle, by id from 4, without the four special tokens.

    Nothing in the file is imported or called. Accepted are the class
    ``language.vocabulary.SimpleVocabulary``, dictionaries, and the tokeniser, which is ignored.

    Args:
        path: The pickle. As ``backbone.vocabulary`` its words fit a checkpoint trained with it.

    Raises:
        CIRError: If the file is missing, damaged, has another class, or is no such vocabulary.
    """
    if not path.is_file():
        raise CIRError(f"vocabulary {path} does not exist")
    try:
        with path.open("rb") as file:
            content = _Reader(file).load()
    except pickle.UnpicklingError as error:
        raise CIRError(
            f"vocabulary {path} is not read, since {str(error).splitlines()[0]}\n"
            f"accepted: a pickle of {'.'.join(_CLASS)} with plain values"
        ) from error
    except (*_DAMAGE, *_DAMAGE_TOO) as error:
        raise CIRError(f"vocabulary {path} is damaged: {type(error).__name__}") from error
    return _words(content, path)


def vocabulary_option(path: Path) -> dict[str, tuple[str, ...]]:
    """The backbone option ``vocabulary`` from a pickle, for ``official_files``.

    Raises:
        CIRError: As ``read_words``.
    """
    return {"backbone.vocabulary": read_words(path)}


def words_of_texts(path: Path) -> dict[str, tuple[str, ...]]:
    """The backbone option ``vocabulary`` from TIRG's training texts, for ``official_files``.

    Official checkpoints have no vocabulary: it is rebuilt from the training texts.

    Args:
        path: One text per line, UTF-8, in any order.

    Raises:
        CIRError: If the file cannot be read or holds no word.
    """
    words = learn_words(read_text(path, "training texts").split("\n"), "tirg")
    if not words:
        raise CIRError(f"training texts {path} hold no word; accepted: one text per line")
    return {"backbone.vocabulary": words}


def _words(content: Any, path: Path) -> tuple[str, ...]:
    official = isinstance(content, _Record) and getattr(content, "official", False)
    table = vars(content).get("_token2id") if official else None
    if not isinstance(table, dict):
        raise CIRError(
            f"vocabulary {path} holds no table of tokens\n"
            f"accepted: a pickle of {'.'.join(_CLASS)} with its attribute '_token2id'"
        )
    plain = all(isinstance(token, str) and type(number) is int for token, number in table.items())
    numbers = {number: token for token, number in table.items()} if plain else {}
    if set(numbers) != set(range(len(table))) or len(table) < SPECIALS:
        raise CIRError(
            f"vocabulary {path} does not number its {len(table)} tokens from 0 without gaps; "
            f"accepted: strings numbered so, the first {SPECIALS} of them special tokens"
        )
    return tuple(numbers[number] for number in range(SPECIALS, len(table)))
