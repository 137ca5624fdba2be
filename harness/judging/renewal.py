"""Renews prices and retirement dates from litellm's public price data, `model_prices_and_context_window.json`.

Only the file's format is used, not the package: an object of models, each with `mode`, `input_cost_per_token`,
`output_cost_per_token` and their `_batches` (dollars per token), and `deprecation_date`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.boards.writing import write_output
from harness.errors import DataError
from harness.files import cache_root
from harness.outside import parse_json, read_file, reason_of
from harness.printable import printable
from harness.servers.body import LARGEST_REPLY
from harness.servers.hosts import is_loopback
from harness.servers.prices import LARGEST, RENEWED, Listing, PriceTable, calendar_date, price_table, read_prices
from harness.servers.replies import LONGEST_NAME

SECONDS = 60.0
"""For the whole download."""
MODES = frozenset({"chat", "completion", "responses"})
EXPECTED = "expected litellm's model_prices_and_context_window.json"


class Renewal(NamedTuple):
    """What a renewal has changed. `models`: how many are listed now; `left_out`: entries that are no chat models, or
    have no price and no date. `changes`: lines like `gpt-5.4: $2.5 / $15 -> $2 / $12`, of models that were known
    before; `new`: how many were not. `own`: models whose prices of the user's own table go before these."""

    path: Path
    models: int
    left_out: int
    changes: tuple[str, ...]
    new: int
    own: tuple[str, ...]


def renew(source: str, today: date) -> Renewal:
    """Read prices from a file, or an address with https, and write them beside the user's own table, which stays as it
    is and goes first. Raises DataError, in one line; nothing is changed then."""
    data, as_of = (_download(source), today) if "://" in source else _read(Path(source), today)
    shown = printable(source, 200)
    models, left_out = listings(data, shown)
    path = cache_root() / RENEWED
    before = price_table(renewed=_is_readable(path))
    lines = {name: listing.model_dump(mode="json", exclude_none=True) for name, listing in sorted(models.items())}
    write_output(path, json.dumps({"as_of": as_of.isoformat(), "source": shown, **lines}, indent=0) + "\n")
    after = price_table()
    users = cache_root() / "prices.yaml"
    own = [model for file in after.files if file.path == users.resolve() for model in file.models if model in models]
    changes = tuple(_changes(before, after))
    new = sum(model not in before.listings for model in models)
    return Renewal(path, len(models), left_out, changes, new, tuple(own))


def _is_readable(path: Path) -> bool:
    """Whether a table is there and whole: a spoilt one of an earlier renewal is replaced, and no reason to stop."""
    try:
        read_prices(path)
    except DataError:
        return False
    return True


def _read(path: Path, today: date) -> tuple[bytes, date]:
    """A file's content, and the day it was last changed."""
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        return read_file(path, LARGEST_REPLY), min(changed, today)
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} can't be read ({reason_of(error)}); {EXPECTED}") from None


def _download(url: str) -> bytes:
    import httpx

    from harness.servers.network import limits
    from harness.servers.transport import Transport

    by_hand = "download the file yourself and give its name"
    try:
        place = urlsplit(url)
        secure = place.scheme == "https" or (place.scheme == "http" and is_loopback(place.hostname))
    except ValueError:
        secure = False
    if not secure:
        raise DataError(f"{printable(url, 200)}: prices are downloaded by https only; use that, or {by_hand}")
    try:
        with httpx.Client(transport=Transport(url, SECONDS), trust_env=False, timeout=SECONDS) as client:
            response = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        reason = printable(str(error).replace("check base_url", "check the address") or type(error).__name__, 200)
        raise DataError(f"{printable(url, 200)} can't be downloaded ({reason}); {by_hand}") from None
    finally:
        limits.end()
    if response.status_code != 200:
        reason = f"HTTP {response.status_code}"
        raise DataError(f"{printable(url, 200)} can't be downloaded ({reason}); check the address, or {by_hand}")
    return response.content


def listings(data: bytes, where: str) -> tuple[dict[str, Listing], int]:
    """(the models of litellm's price data, the number of entries left out). Prices of 0 are left out, since litellm
    writes 0 where it doesn't know one. Raises DataError for a price that can't be right."""
    try:
        entries = parse_json(data)
    except ValueError as error:
        raise DataError(f"{where} is not JSON ({printable(str(error), 200)}); {EXPECTED}") from None
    if not isinstance(entries, Mapping) or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise DataError(f"{where}: {EXPECTED}: an object with one object a model")
    models: dict[str, Listing] = {}
    for model, entry in entries.items():
        if entry.get("mode") in MODES and 0 < len(model) <= LONGEST_NAME:
            listing = _listing(entry, f"{where}: {printable(model, 100)}")
            if listing is not None:
                models[model] = listing
    if not models:
        raise DataError(f"{where} lists no chat model with a price; {EXPECTED}")
    return models, len(entries) - len(models)


def _listing(entry: Mapping[str, Any], where: str) -> Listing | None:
    """An entry as a line of our own; None where it has neither prices nor a date."""

    def cost(name: str) -> float | None:
        value = entry.get(name)
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not 0 <= value * 1e6 <= LARGEST:
            most = LARGEST / 1e6
            raise DataError(
                f"{where}: {name} is {printable(repr(value), 40)}; expected dollars per token, a number from 0 to "
                f"{most:g}; nothing was changed"
            )
        return float(f"{value * 1e6:.10g}")

    paid, reply = cost("input_cost_per_token"), cost("output_cost_per_token")
    thought = cost("output_cost_per_reasoning_token")  # counted as output tokens: the dearer of both is an upper bound
    batch, batch_reply = cost("input_cost_per_token_batches"), cost("output_cost_per_token_batches")
    prices: dict[str, Any] = {}
    if paid is not None and reply is not None and paid + reply > 0:
        prices = {"input": paid, "output": max(reply, thought or 0.0)}
        if batch is not None and batch_reply is not None and batch + batch_reply > 0:
            prices |= {"batch_input": batch, "batch_output": batch_reply}
    retires = calendar_date(entry.get("deprecation_date"))
    return Listing(**prices, retires=retires) if prices or retires else None


def _changes(before: PriceTable, after: PriceTable) -> Iterator[str]:
    for model, now in after.listings.items():
        was = before.listings.get(model)
        if was is not None and was != now:
            yield f"{model}: {shown(was)} -> {shown(now)}"


def shown(listing: Listing) -> str:
    """`$2.5 / $15, in a batch $1.25 / $7.5, retires 2027-01-14`."""
    price = f"${listing.input:g} / ${listing.output:g}" if listing.input is not None else "price unknown"
    batch = f", in a batch ${listing.batch_input:g} / ${listing.batch_output:g}" if listing.batch_input else ""
    return f"{price}{batch}{f', retires {listing.retires}' if listing.retires else ''}"
