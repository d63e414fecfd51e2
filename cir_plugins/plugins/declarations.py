"""What a component's class may carry beside its protocol, written down once.

Each ``Declaration`` is an attribute that the host reads where it is there: its type, what it is
for, and what counts without it. They are checked when a component is planned, and the host reads
them here only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from cir_plugins.errors import CIRError

V = TypeVar("V")

Names: TypeAlias = frozenset[str]
Options: TypeAlias = Mapping[str, Any]
"""Values by option, or by ``table.option``."""
CaptionEdit: TypeAlias = Callable[[str], str]


@dataclass(frozen=True)
class Licence:
    """What code or weights may be used for, as their owners write; no legal advice.

    Attributes:
        of: What it is of, such as ``official weights``.
        name: Its name, such as ``MIT``; ``none`` where no licence is given.
        commercial: Whether it allows commercial use; ``unclear`` where its words do not say so.
        source: Address where it is written.
    """

    of: str
    name: str
    commercial: Literal["yes", "no", "unclear"]
    source: str


@dataclass(frozen=True)
class Declaration(Generic[V]):
    """An attribute that a component's class may have.

    Attributes:
        kind: Kind of the component.
        name: Name of the attribute.
        default: What counts where it is left out.
        accepted: Its type in words.
        fits: Whether a value has that type.
        text: What it is for.
    """

    kind: Literal["backbone", "sampler", "loss", "method", "dataset"]
    name: str
    default: V
    accepted: str
    fits: Callable[[Any], bool]
    text: str

    def of(self, component: object) -> V:
        """The value that a class, a factory or a built component declares, else the default.

        Raises:
            CIRError: If it has another type.
        """
        value: Any = getattr(component, self.name, self.default)
        if isinstance(value, property):  # a class whose value follows from its options
            return self.default
        if value is not self.default and not self.fits(value):
            raise CIRError(f"'{self.name}' is {value!r:.80}; accepted: {self.accepted}")
        result: V = value
        return result


def check_declarations(kind: str, component: object) -> None:
    """Nothing, if whatever a component's class declares has its type.

    Raises:
        CIRError: With the attribute and what is accepted.
    """
    for declaration in DECLARATIONS:
        if declaration.kind == kind:
            declaration.of(component)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, frozenset) and all(isinstance(name, str) for name in value)


def _is_licences(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, Licence) for each in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_presets(value: Any) -> bool:
    return _is_table(value) and all(_is_table(options) for options in value.values())


def _is_functions(value: Any) -> bool:
    return _is_table(value) and all(callable(function) for function in value.values())


_BOOL = "True or False"
_NAMES = "a frozenset of strings"
_FUNCTION = "a function"

OFFERS = Declaration[Names](
    "backbone",
    "offers",
    frozenset(),
    _NAMES,
    _is_names,
    text="Names of what a backbone gives beyond the protocol (see `cir_plugins.method`).",
)
LEARNED_OPTIONS = Declaration[Mapping[str, Callable[[Sequence[str]], Any]]](
    "backbone",
    "learned_options",
    {},
    "a mapping option -> function",
    _is_functions,
    text="Options that, where they are empty, are learned from the training texts, such as a "
    "vocabulary: option -> function of the texts. The run's configuration then holds them.",
)
SUGGESTED_LR = Declaration[float](
    "backbone",
    "suggested_lr",
    0.0,
    "a number",
    lambda value: isinstance(value, float),
    text="A learning rate that suits a small backbone, named where a published one is far lower; "
    "0 for none.",
)
FALLBACK = Declaration[Callable[..., Any] | None](
    "sampler",
    "negatives_and_fallback",
    None,
    _FUNCTION,
    callable,
    text="A method `(scores, target, excluded) -> (negatives, queries)`: the mask of a call, and "
    "(Q,) bool, the queries whose negatives come from outside the sampler's rule, for reports.",
)
SCALED = Declaration[bool](
    "loss",
    "scaled",
    True,
    _BOOL,
    _is_bool,
    text="Whether a loss takes scores over the temperature (True) or cosines. Every loss has it.",
)
BATCH_DEPENDENT = Declaration[bool](
    "loss",
    "batch_dependent",
    False,
    _BOOL,
    _is_bool,
    text="Whether the loss of a query depends on the batch's other queries.",
)
IN_BATCH_ONLY = Declaration[bool](
    "loss",
    "in_batch_only",
    False,
    _BOOL,
    _is_bool,
    text="Whether the loss is symmetric, from each target to the batch's queries too: mined "
    "negatives, which have no query, are then an error.",
)
NEEDS = Declaration[Names](
    "method",
    "needs",
    frozenset(),
    _NAMES,
    _is_names,
    text="Names of what a method needs of its backbone beyond the protocol.",
)
TRAINED = Declaration[bool](
    "method",
    "trained",
    True,
    _BOOL,
    _is_bool,
    text="False: nothing is trained, and the method has no use for loss and sampler.",
)
TEXT_VARIANTS = Declaration[Mapping[str, CaptionEdit]](
    "method",
    "text_variants",
    {},
    "a mapping name -> function of a caption",
    _is_functions,
    text="Further readings of a caption, each tokenised beside the text into "
    "`Batch.text_variants`: name -> edit of a raw caption.",
)
CAPTION_EDIT = Declaration[CaptionEdit | None](
    "method",
    "caption_edit",
    None,
    "a function of a caption, or None",
    callable,
    text="An edit of every raw caption, in training and evaluation.",
)
EVAL_ONLY_OPTIONS = Declaration[Names](
    "method",
    "eval_only_options",
    frozenset(),
    _NAMES,
    _is_names,
    text="Options that only evaluation reads: on another data set the recipe's values count, not "
    "the run's.",
)
CHECK_COMPATIBILITY = Declaration[Callable[[Any], str] | None](
    "method",
    "check_compatibility",
    None,
    _FUNCTION,
    callable,
    text="A static method of a plan: why its components or settings cannot work with the method, "
    'or `""`. It is called before anything is built.',
)
OFFICIAL = Declaration[Callable[..., Any] | None](
    "method",
    "official",
    None,
    "a function, see cir_plugins.Official",
    callable,
    text="A static method `(checkpoints, method) -> state` for `cir convert`: the method's state "
    "from the contents of official checkpoints.",
)
OFFICIAL_FILES = Declaration[Mapping[str, Callable[[Path], Options]]](
    "method",
    "official_files",
    {},
    "a mapping suffix -> function of a path",
    _is_functions,
    text="Readers of official files that are no checkpoints, such as a vocabulary: suffix -> "
    "function of the file's path that gives options by `table.option`.",
)
OFFICIAL_SETTINGS = Declaration[Options | None](
    "method",
    "official_settings",
    None,
    "a mapping of options by table.option",
    _is_table,
    text="Options by `table.option` of a converted run; without them `backbone.weights` is "
    "`random`, as the checkpoint brings the weights.",
)
ENCODE_WEIGHTED = Declaration[Callable[..., Any] | None](
    "method",
    "encode_weighted",
    None,
    _FUNCTION,
    callable,
    text="A method `(features, tokens, weight (B, 1)) -> (B, D)` of a method that is a weighted "
    "sum: `encode_query` with each query's own share of the text, for searches with a weight.",
)
CODE_LICENCES = Declaration[tuple[Licence, ...]](
    "method",
    "licences",
    (),
    "a tuple of cir_plugins.Licence",
    _is_licences,
    text="Licences of a method's official code and weights, which `cir show` prints.",
)
WEIGHTS_LICENCES = Declaration[tuple[Licence, ...]](
    "backbone",
    "licences",
    (),
    "a tuple of cir_plugins.Licence",
    _is_licences,
    text="Licences of the weights that a backbone is known to load, which `cir show` prints.",
)
PROTOCOLS = Declaration[Mapping[str, Options]](
    "dataset",
    "protocols",
    {},
    "a mapping name -> options of the reader",
    _is_presets,
    text="Evaluation protocols by name: the reader's options that each of them sets.",
)
ANNOTATIONS = Declaration[Callable[[Path], list[Any]] | None](
    "dataset",
    "annotations",
    None,
    _FUNCTION,
    callable,
    text="A method `(root) -> splits` for `cir check`, without a look at the image files.",
)
NOTES = Declaration[Callable[[Path], list[str]] | None](
    "dataset",
    "notes",
    None,
    _FUNCTION,
    callable,
    text="A method `(root) -> lines` for `cir check`: notes on the folder for its user.",
)
LOOKED_FOR = Declaration[Callable[[Path], str] | None](
    "dataset",
    "looked_for",
    None,
    _FUNCTION,
    callable,
    text="A method `(root) -> text` for `cir check`: where images were looked for.",
)
PROTOCOL_VERSION = Declaration[int](
    "dataset",
    "protocol_version",
    1,
    "a whole number",
    lambda value: isinstance(value, int),
    text="Raised where the same protocol gives other numbers than before; in every result.",
)
PROTOCOL_FACTS = Declaration[Callable[[Path], Mapping[str, str]] | None](
    "dataset",
    "protocol_facts",
    None,
    _FUNCTION,
    callable,
    text="A method `(root) -> {name: text}` for the record of every result: `gallery`, what is "
    "ranked, and `shared_concept`, whether texts hold it, where data has one.",
)

DECLARATIONS: tuple[Declaration[Any], ...] = (
    *(
        OFFERS,
        LEARNED_OPTIONS,
        SUGGESTED_LR,
        FALLBACK,
        SCALED,
        BATCH_DEPENDENT,
        IN_BATCH_ONLY,
        NEEDS,
        TRAINED,
    ),
    *(TEXT_VARIANTS, CAPTION_EDIT, EVAL_ONLY_OPTIONS, CHECK_COMPATIBILITY),
    *(
        CODE_LICENCES,
        WEIGHTS_LICENCES,
        OFFICIAL,
        OFFICIAL_FILES,
        OFFICIAL_SETTINGS,
        ENCODE_WEIGHTED,
        PROTOCOLS,
    ),
    *(ANNOTATIONS, NOTES, LOOKED_FOR),
    *(PROTOCOL_VERSION, PROTOCOL_FACTS),
)
