"""Commands that describe the fields of a recipe: in the terminal, and as a JSON Schema for editors."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import say, say_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.recipe.reference.fields import FieldText


def fields(
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="A field or section, as data.prompts.count.", show_default=False)
    ] = "",
) -> None:
    """Say what the fields of a recipe are: all sections, or with a path the fields of one, with types, defaults and
    bounds."""
    from rich.padding import Padding
    from rich.text import Text

    from harness.printable import printable, terminal
    from harness.recipe.reference.fields import find

    found, console = find(path), terminal()
    if found.field is not None:
        console.print(Text.assemble((found.path, "bold"), f"  {found.field.type}, {_rest(found.field)}"))
        console.print(Padding(Text(printable(found.field.text)), (0, 0, 0, 2)))
    if found.kind is not None:
        say(f"Its components and their fields: harness components {found.kind}")
    elif found.fields:
        if found.field is not None:
            console.print("")
        console.print(field_table(found.fields))
        if section := next((field.name for field in found.fields if field.opens), None):
            path = f"{found.path}.{section}" if found.path else section
            say(f"Sections have fields of their own: harness fields {path}")


def _rest(field: "FieldText") -> str:
    default = field.default if field.default == "required" else f"by default {field.default}"
    return ", ".join(part for part in (default, field.bounds) if part)


def field_table(fields: "Sequence[FieldText]") -> "RenderableType":
    """Fields with their types, bounds, defaults and texts."""
    from rich.table import Table
    from rich.text import Text

    from harness.printable import printable

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("field", no_wrap=True)
    for title, ratio in (("type", 2), ("default", 1), ("what it is", 4)):
        table.add_column(title, overflow="fold", ratio=ratio)
    for field in fields:
        kind = ", ".join(part for part in (field.type, field.bounds) if part)
        table.add_row(*map(Text, (field.name, kind, field.default, printable(field.text))))
    return table


def schema(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The file to write; by default it is printed."),
    ] = None,
) -> None:
    """Write the JSON Schema of recipes, with which editors complete fields and underline mistakes. A recipe's first
    line names it: # yaml-language-server: $schema=recipe.schema.json"""
    from harness.recipe.reference.schema import recipe_schema

    if out is None:
        say_json(recipe_schema(), 2)
        return
    write_schema(out)
    say(f"{out}: the schema of recipes; first line of a recipe: # yaml-language-server: $schema={out.name}")


def write_schema(path: Path) -> None:
    """Write the schema of recipes. Raises OSError, and StoreError for a link."""
    from harness.boards.writing import write_output
    from harness.printable import printable_json
    from harness.recipe.reference.schema import recipe_schema

    write_output(path, printable_json(recipe_schema(), 1) + "\n")
