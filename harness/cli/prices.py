"""The command about what served models cost: prices."""

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import say, short
from harness.errors import HarnessError, nearest, quoted

if TYPE_CHECKING:
    from datetime import date

    from harness.servers.prices import PriceTable

SHOWN = 100
"""The largest number of models listed without a word to search for."""
CHANGES = 20
"""The largest number of changes listed."""


@short
def prices(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]...", help="Only models with these words.")
    ] = None,
    renew: Annotated[
        str | None,
        typer.Option(
            "--renew",
            metavar="FILE_OR_URL",
            help="Read prices and retirement dates from litellm's model_prices_and_context_window.json. Your own "
            "prices.yaml stays as it is and goes first.",
        ),
    ] = None,
) -> None:
    """Show what served models cost, in dollars per million tokens, and when they retire."""
    from harness.judging.retirements import today
    from harness.servers.prices import price_table

    if renew is not None:
        _renew(renew)
    _show(price_table(), [word.lower() for word in words or ()], today(), known=renew is None)


def _renew(source: str) -> None:
    from harness.judging.renewal import renew
    from harness.judging.retirements import today

    done = renew(source, today())
    for line in done.changes[:CHANGES]:
        say(line)
    if (more := len(done.changes) - CHANGES) > 0:
        say(f"… and {more:,} more changes")
    own = f"; your own prices.yaml goes before it for {', '.join(done.own[:10])}" if done.own else ""
    own += f" and {len(done.own) - 10} more" if len(done.own) > 10 else ""
    say(
        f"{done.path}: {done.models:,} models ({done.new:,} new, {len(done.changes):,} changed); {done.left_out:,} "
        f"entries without a price and date, or not of a chat model, are left out{own}"
    )


def _show(table: "PriceTable", words: list[str], day: "date", *, known: bool) -> None:
    from rich.table import Table

    from harness.printable import printable, terminal

    console = terminal()
    names = [name for name in sorted(table.listings) if all(word in name.lower() for word in words)]
    if words and not names:
        raise HarnessError(
            f"no model with {quoted(' '.join(words))} in any price table; {nearest(words[0], table.listings)}. Give a "
            "price in $HARNESS_HOME/prices.yaml, or as the judge's own `price`"
        )
    if (len(names) <= SHOWN or words) and (known or words):
        shown = Table(box=None, header_style="bold")
        shown.add_column("model", overflow="fold")
        for title in ("input", "output", "in a batch", "retires"):
            shown.add_column(title, no_wrap=True, justify="right")
        for name in names:
            listing = table.listings[name]
            costs = [f"{x:g}" if x is not None else "unknown" for x in (listing.input, listing.output)]
            batch = f"{listing.batch_input:g} / {listing.batch_output:g}" if listing.batch_input is not None else ""
            found = table.retirement(name)
            last = f"{found[0]}{' (gone)' if found[0] <= day else ''}" if found else ""
            shown.add_row(printable(name), *costs, batch, last)
        console.print(shown)
    elif known:
        say(f"{len(names):,} models; name some: harness prices gpt-5")
    for file in reversed(table.files):
        age = f"as of {file.as_of} ({(day - file.as_of).days} days ago)" if file.as_of else "without a date"
        source = f", {file.source}" if file.source else ""
        console.print(printable(f"{file.path}: {len(file.models):,} models, {age}{source}"), soft_wrap=True)
