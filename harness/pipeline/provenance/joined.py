"""Puts the parts of a provenance together."""

from collections.abc import Iterable

from harness.boards.provenance import Provenance


def joined(parts: Iterable[Provenance]) -> Provenance:
    """One record of the fields that were given in any part; later parts override earlier ones."""
    fields = {name: value for part in parts for name, value in part if name in part.model_fields_set}
    return Provenance.model_validate(fields)
