"""Errors keep their class on the way from another process."""

import pytest

from harness import errors
from harness.errors import HarnessError, error_class


def test_every_error_is_known_by_its_name() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HarnessError)]
    assert len(classes) >= 8
    for kind in classes:
        assert error_class(kind.__name__) is kind


@pytest.mark.parametrize("name", ["PermissionError", "Iterable", "closest", ""])
def test_another_name_is_just_an_error(name: str) -> None:
    assert error_class(name) is HarnessError
