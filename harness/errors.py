"""Errors meant for the user. The command line prints each as one line and exits with status 2."""

import difflib
from collections.abc import Iterable


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


ERRORS: dict[str, type[HarnessError]] = {
    kind.__name__: kind
    for kind in (
        *(HarnessError, RecipeError, ComponentError, DataError, ModelError),
        *(SamplesRefused, JudgeError, CostError, StoreError),
    )
}


def error_class(name: str) -> type[HarnessError]:
    """The class of an error that another process reported by name; HarnessError if the name is unknown."""
    return ERRORS.get(name, HarnessError)


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
