"""Errors meant for the user. The command line prints each as one line and exits with status 2."""

import difflib
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec


class HarnessError(Exception):
    """Base of all errors meant for the user. The text says where, what, what was expected and what to do."""


class RecipeError(HarnessError):
    """The recipe or a command-line argument is invalid."""


class ComponentError(HarnessError):
    """The file of a component can't be loaded, or what it defines is not a component of its kind."""


class DataError(HarnessError):
    """A file of seeds, prompts, answers or verdicts can't be read."""


class ModelError(HarnessError):
    """A model can't be found, read, downloaded or used."""


class SamplesRefused(ModelError):
    """A server has refused samples because of their prompts, as a content filter does. `samples`: (index of the
    request, index of the sample) each. `answered`: whether it has answered others; if not, it may refuse all."""

    def __init__(self, text: str, samples: Iterable[tuple[int, int]] = (), *, answered: bool = False) -> None:
        super().__init__(text)
        self.samples = tuple(samples)
        self.answered = answered


class JudgeError(HarnessError):
    """A judge can't be reached or used at all. (A single bad reply is a missing verdict, not an error.)"""


class CostError(HarnessError):
    """The limit on judging costs has been reached or can't be enforced."""


class StoreError(HarnessError):
    """The store of artifacts can't be read or written."""


class MissingPackage(HarnessError):
    """A package is needed that is not installed. The text ends with the command that installs it."""


ERRORS: dict[str, type[HarnessError]] = {
    kind.__name__: kind
    for kind in (
        *(HarnessError, RecipeError, ComponentError, DataError, ModelError),
        *(SamplesRefused, JudgeError, CostError, StoreError, MissingPackage),
    )
}


def error_class(name: str) -> type[HarnessError]:
    """The class of an error that another process reported by name; HarnessError if the name is unknown."""
    return ERRORS.get(name, HarnessError)


EXTRAS: Mapping[str, tuple[str, ...]] = {
    "parquet": ("pyarrow",),
    "judge": (
        *("alpaca_eval", "dotenv", "pkg_resources", "pandas", "fastchat", "fschat", "anthropic", "openai"),
        *("regex", "huggingface_hub", "pooch", "scipy"),
    ),
    "train": (
        *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "gguf", "filelock", "sklearn"),
        *("datasketch", "py3langid", "sacrebleu"),
    ),
    "qlora": ("bitsandbytes",),
    "ray": ("ray",),
    "lm-eval": ("lm_eval",),
    "ifbench": ("if_verifiable", "nltk"),
    "embeddings": ("sentence_transformers",),
}
"""What the extras of this package bring, by the names that are imported or whose version is asked for: each in the
smallest extra that has it."""


def installation(package: str) -> str:
    """The command that installs a package, given the name that is imported."""
    extra = extra_of(package)
    return f"pip install 'preference-harness[{extra}]'" if extra else f"pip install {package}"


def extra_of(package: str) -> str | None:
    """The smallest extra that brings a package; None for one that no extra brings."""
    return next((extra for extra, names in EXTRAS.items() if package in names), None)


def need(what: str, packages: Iterable[str]) -> None:
    """Raise MissingPackage for the first of `packages`, by the names that are imported, that is not installed. `what`
    needs them; it begins the message."""
    for name in packages:
        if not is_installed(name):
            raise _missing(what, name)


def missing_package(error: BaseException, what: str) -> MissingPackage | None:
    """The error to show for a failed import of what an extra brings; None for any other error, among them the failed
    import of a part of a package that is installed."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or is_installed(error.name.partition(".")[0]):
        return None
    return _missing(what, error.name) if extra_of(error.name) else None


def _missing(what: str, package: str) -> MissingPackage:
    return MissingPackage(f"{what} needs the package {package}, which is not installed: {installation(package)}")


def is_installed(name: str) -> bool:
    """Whether a package can be imported, by the name that is imported."""
    if sys.modules.get(name) is not None:
        return True
    spec = find_spec(name)
    return spec is not None and spec.origin is not None  # without: a mere folder of that name, as trackers leave behind


def closest(wrong: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant; None if nothing is close."""
    return next(iter(difflib.get_close_matches(wrong[:100], sorted(names), n=1, cutoff=0.5)), None)


def nearest(wrong: str, names: Iterable[str], heading: str = "available") -> str:
    """`did you mean 'x'? ` if a name is close, followed by the list of names under `heading`."""
    names = sorted(names)
    close = closest(wrong, names)
    guess = f"did you mean '{close}'? " if close else ""
    return f"{guess}{heading}: {', '.join(names)}"


def quoted(text: str, width: int = 60) -> str:
    """Untrusted text made safe for a message: quoted, escaped, on one line and at most `width` characters."""
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")
