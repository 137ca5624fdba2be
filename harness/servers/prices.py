"""Token prices of served models."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.errors import DataError
from harness.files import asset, cache_root
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.outside_yaml import parse_yaml
from harness.types import JudgeRequest, Price


def read_prices(path: Path) -> dict[str, Price]:
    """Read a price table: prices by model. Raises DataError."""
    expected = "expected one line `MODEL: {input: 2.5, output: 10}` per model, in dollars per million tokens"
    try:
        prices = parse_yaml(read_text(path, LARGEST_SETTINGS))
        return TypeAdapter(dict[str, Price]).validate_python(prices or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(f"price table {path}: {where}: {first['msg']}; {expected}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"price table {path} can't be read ({reason_of(error)}); {expected}") from None


def price_table(path: Path | None) -> dict[str, Price]:
    """All known prices by model. `path` takes precedence over the user's own table, and that over the shipped one."""
    users_table = (cache_root() / "prices.yaml").resolve()  # the user's own, which may be a link to anywhere
    tables = [asset("prices.yaml"), *([users_table] if users_table.exists() else []), *([path] if path else [])]
    return {model: price for table in tables for model, price in read_prices(table).items()}


def at_most(request: JudgeRequest, price: Price) -> float:
    """The highest possible cost of one call, in dollars: every byte of the prompt is a token, with 16 more tokens per
    message for its markers, and the reply has the maximal length."""
    prompt = sum(len(m.content.encode("utf-8", "replace")) + 16 for m in request.messages) + 16
    return price.of(prompt, request.max_tokens)


def dollars(amount: float | None) -> str:
    """`$1.2345`, or `unknown`."""
    return "unknown" if amount is None else f"${amount:,.2f}" if amount >= 100 else f"${amount:.4f}"
