"""What can go wrong, by who can mend it. The command line prints each as one line and exits with 2."""

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Base of every error that is meant for the user: its text says where, what, expected and what to do."""


class RecipeError(HarnessError):
    """The recipe, or a command-line argument, is wrong."""


class DataError(HarnessError):
    """A file of seeds, prompts, answers or verdicts can't be read."""


class ModelError(HarnessError):
    """A model can't be found, read, downloaded or used."""


class JudgeError(HarnessError):
    """A judge can't be reached or used at all (a single bad reply is a missing verdict, not an error)."""


class CostError(HarnessError):
    """A limit on what judging may cost has been reached, or can't be kept."""


class StoreError(HarnessError):
    """The store of artifacts can't be read or written."""


def closest(wrong: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, None where nothing is near."""
    return next(iter(difflib.get_close_matches(wrong[:100], sorted(names), n=1, cutoff=0.5)), None)


def nearest(wrong: str, names: Iterable[str], heading: str = "available") -> str:
    """`did you mean 'x'? ` where something is near, and what there is."""
    names = sorted(names)
    close = closest(wrong, names)
    guess = f"did you mean '{close}'? " if close else ""
    return f"{guess}{heading}: {', '.join(names)}"


def quoted(text: str, width: int = 60) -> str:
    """A text from outside as a message may show it: quoted, escaped, on one line and not longer than `width`."""
    return repr(text if len(text) <= width else f"{text[: width - 1]}…")
