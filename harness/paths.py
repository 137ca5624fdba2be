"""Where things lie on the user's machine."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_root() -> Path:
    """The harness's cache folder: `$HARNESS_HOME`, else the user's cache folder. Holds models and the store."""
    home = os.environ.get("HARNESS_HOME")
    return Path(home).expanduser().absolute() if home else user_cache_path("harness", appauthor=False)
