"""What a loss's stage key takes for the same code: `harness.components.source_hash`."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.components import source_hash
from tests.losses.batches import NAMES, a_loss

LOSS = '''\
"""A loss of a third party."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from PACKAGE.numbers import scaled
from harness.protocols import Loss

if TYPE_CHECKING:
    from harness.protocols import RankedLogps


class Mine(Loss):
    """One description."""

    name: Literal["mine"] = "mine"
    beta: float = Field(0.1, gt=0)

    def __call__(self, batch: "RankedLogps", power: int = 2) -> object:
        """[B]."""
        import torch

        # A comment.
        return scaled(torch.tensor(0.5)) + self.beta * math.sqrt(batch.logps.sum()) ** power
'''
MOVED = """\
from __future__ import annotations
import math, torch
from .numbers import scaled
from typing import Literal
from harness.protocols import *
from pydantic import Field
class Mine(Loss):
    'Another description of the same code.'
    name: Literal['mine'] = ("mine")
    beta: float = Field(0.1,
                        gt=0)
    def __call__(self, batch: "RankedLogps", power: int = 2) -> object:
        return (scaled(torch.tensor(.5))  # another comment
                + self.beta * math.sqrt(batch.logps.sum()) ** power)
"""
HELPER = '''\
"""Numbers."""

FACTOR = 3


def scaled(value: float) -> float:
    """Its multiple."""
    return FACTOR * value
'''
RELATIVE = LOSS.replace("from PACKAGE.numbers", "from .numbers")
Hash = Callable[..., str]


@pytest.fixture
def hash_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hash]:
    """The hash of `Mine` in a new package that holds these texts by the name of their modules."""
    monkeypatch.syspath_prepend(tmp_path)
    packages: list[str] = []

    def build(loss: str, module: str = "mine", **helpers: str) -> str:
        package = f"third_party_{len(packages)}"
        packages.append(package)
        (tmp_path / package).mkdir()
        for name, text in {"__init__": "", "numbers": HELPER, module: loss, **helpers}.items():
            (tmp_path / package / f"{name}.py").write_text(text.replace("PACKAGE", package))
        importlib.invalidate_caches()
        return source_hash(importlib.import_module(f"{package}.{module}").Mine())

    yield build
    for name in [m for m in sys.modules if m.partition(".")[0] in packages]:
        del sys.modules[name]


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


def test_a_loss_that_is_moved_and_described_otherwise_is_the_same(hash_of: Hash) -> None:
    assert hash_of(MOVED, module="elsewhere") == hash_of(LOSS)


def test_imports_inside_other_statements_do_not_count(hash_of: Hash) -> None:
    guarded = changed(
        LOSS, "import math\n", "try:\n    import math\nexcept ImportError:\n    from PACKAGE import math\n"
    )
    other = changed(LOSS, "import math\n", "try:\n    import math\nexcept ImportError:\n    import cmath as math\n")
    assert hash_of(guarded) == hash_of(other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tensor(0.5)", "tensor(0.25)"),
        ("+ self.beta", "- self.beta"),
        ("power: int = 2", "power: int = 3"),
        ("Field(0.1,", "Field(0.2,"),
        ("math.sqrt", "math.exp"),
        ("** power", "** (power + 1)"),
        ("return scaled(torch.tensor(0.5)) + self.beta * math", "return scaled(torch.tensor(0.5) + self.beta) * math"),
        ("        # A comment.", "        power += 1"),
        ("import RankedLogps\n", "import RankedLogps\nelse:\n    RankedLogps = object\n"),
    ],
)
def test_other_code_is_another_loss(hash_of: Hash, old: str, new: str) -> None:
    assert hash_of(changed(LOSS, old, new)) != hash_of(LOSS)


@pytest.mark.parametrize("loss", [LOSS, RELATIVE], ids=["absolute", "relative"])
def test_the_files_beside_it_count_where_it_imports_them(hash_of: Hash, loss: str) -> None:
    plain = hash_of(loss)
    assert hash_of(loss, numbers=changed(HELPER, "FACTOR = 3", "FACTOR = 4")) != plain
    assert hash_of(loss, numbers=changed(HELPER, '"""Numbers."""', "# Of the loss.")) == plain
    assert hash_of(loss, unrelated="FACTOR = 5\n") == plain


def test_so_do_the_files_that_those_import(hash_of: Hash) -> None:
    helper = changed(HELPER, "FACTOR = 3", "from .factors import FACTOR")
    assert hash_of(LOSS, numbers=helper, factors="FACTOR = 3\n") != hash_of(
        LOSS, numbers=helper, factors="FACTOR = 4\n"
    )


def test_so_does_the_file_of_a_base_class(hash_of: Hash) -> None:
    derived = "from PACKAGE.mine import Mine as Base\n\n\nclass Mine(Base):\n    beta: float = 1.0\n"
    plain = hash_of(derived, module="derived", mine=LOSS)
    assert hash_of(derived, module="derived", mine=changed(LOSS, "+ self.beta", "- self.beta")) != plain
    assert hash_of(derived, module="derived", mine=RELATIVE) == plain


def test_shipped_losses_all_differ() -> None:
    hashes = {name: source_hash(a_loss(name)) for name in NAMES}
    assert len(set(hashes.values())) == len(NAMES) > 1


def test_what_a_loss_says_about_itself_on_boards_does_not_count(hash_of: Hash) -> None:
    field = '    name: Literal["mine"] = "mine"\n'
    on_pairs = f"    on_pairs: ClassVar[bool] = True\n    reconstruction: ClassVar[str | None] = 'partly'\n\n{field}"
    described = changed(LOSS, field, on_pairs).replace("import TYPE_CHECKING", "import TYPE_CHECKING, ClassVar")
    assert hash_of(described) == hash_of(LOSS)
