"""The installed `alpaca_eval` package, run without its side effects and without its slow use of pandas."""

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import need


def package_folder() -> Path:
    """The folder of the installed `alpaca_eval`, without importing it."""
    need("benchmark 'alpaca_eval'", ("alpaca_eval",))
    spec = importlib.util.find_spec("alpaca_eval")
    return Path(spec.origin if spec and spec.origin else "").parent


def mapping_frame(rows: Sequence[Mapping[str, str]]) -> Any:
    """A data frame whose `apply` passes rows as mappings instead of Series. The package applies two functions to every
    row, and building the Series would take pandas as long as the judge takes for two rounds of replies."""
    import pandas as pd

    class RowMapping(dict[Any, Any]):
        def __getitem__(self, key: Any) -> Any:
            return [dict.__getitem__(self, k) for k in key] if isinstance(key, list) else dict.__getitem__(self, key)

    class MappingFrame(pd.DataFrame):
        @property
        def _constructor(self) -> Any:
            return MappingFrame

        def apply(self, func: Any, axis: Any = 0, **options: Any) -> Any:  # type: ignore[override]
            if axis != 1 or options:
                return super().apply(func, axis=axis, **options)
            return pd.Series([func(RowMapping(row)) for row in self.to_dict(orient="records")], index=self.index)

    return MappingFrame(rows)


@contextlib.contextmanager
def alpaca_eval_contained() -> Iterator[None]:
    """Import and run `alpaca_eval` without its side effects: on import it sets the root logger's level and loads a
    `.env`; later it logs to the root logger, draws progress bars over ours and changes scikit-learn's configuration."""
    root = logging.getLogger()
    level, silent = root.level, logging.NullHandler()
    # Without a handler, the package's first message would set one up that writes to the terminal.
    root.addHandler(silent)
    root.addFilter(_not_the_packages)
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pandas as pd
            import sklearn

            with _unchanged_environment():
                import alpaca_eval.utils as utils
        root.setLevel(level)
        # The package works row by row, which takes three times as long with Arrow's strings as with Python's.
        strings = pd.option_context("mode.string_storage", "python")
        with _replaced(utils), sklearn.config_context(), strings, warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", module="sklearn")
            yield
    finally:
        root.setLevel(level)
        root.removeFilter(_not_the_packages)
        root.removeHandler(silent)


@contextlib.contextmanager
def _unchanged_environment() -> Iterator[None]:
    """`.env` files are not loaded, and the environment is afterwards what it was. The package loads one from its own
    folder or any above, or from the working folder: a stranger's would name a proxy for the requests to the judge."""
    import dotenv

    load, before = dotenv.load_dotenv, dict(os.environ)
    dotenv.load_dotenv = _load_nothing
    try:
        yield
    finally:
        dotenv.load_dotenv = load
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _load_nothing(*_: Any, **__: Any) -> bool:
    return False


def _not_the_packages(record: logging.LogRecord) -> bool:
    return "alpaca_eval" not in Path(record.pathname).parts


@contextlib.contextmanager
def _replaced(utils: Any) -> Iterator[None]:
    """The package without its progress bars, and without its clients of servers, which need packages of their own and
    are never asked."""
    original = utils.dataframe_chunk_generator
    from alpaca_eval.annotators import base

    clients = base.get_fn_completions

    def quiet(df: Any, chunksize: int | None = None, tqdm_desc: str | None = None) -> Any:
        return original(df, chunksize)

    base.utils.dataframe_chunk_generator = quiet
    base.get_fn_completions = str
    try:
        yield
    finally:
        base.get_fn_completions = clients
        base.utils.dataframe_chunk_generator = original
