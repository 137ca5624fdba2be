"""What can go wrong, by who can mend it. The command line prints each as one line and exits with 2."""


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


class StoreError(HarnessError):
    """The store of artifacts can't be read or written."""
