"""`harness history BASELINE`."""

import io
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.console import say_json, short


@short
def history(
    baseline: Annotated[Path, typer.Argument(help="A file that `harness baseline promote` wrote.", show_default=False)],
    metric: Annotated[
        str | None,
        typer.Option(help="The figure; by default alpaca_eval.win_rate, else the first that the baseline has."),
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw it into an SVG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a drawing.")] = False,
) -> None:
    """Draw a baseline's figure over all its promotions, each with its 95 % CI, beside the anchor that rows may not
    drift from."""
    from harness.gate.history import DrawnHistory, read_history
    from harness.printable import terminal

    found = read_history(baseline, metric)
    if as_json:
        say_json(found.record(), indent=1)
    else:
        terminal().print(DrawnHistory(found))
    if svg:
        from harness.boards.writing import write_output
        from harness.cli.boards import drawing

        picture = terminal(record=True, width=120, file=io.StringIO(), force_terminal=True)
        picture.print(DrawnHistory(found))
        write_output(svg, drawing(picture, f"harness history {baseline.name}"))
