"""Token prices of served models, and the dates on which they retire.

A price table is a YAML file of one line a model, `MODEL: {input: 2.5, output: 10}`, in dollars per million tokens, with
models named as in the judge's requests. `batch_input`, `batch_output` (prices in a batch) and `retires` (a date) are
optional; a line may also hold a date alone. `as_of` and `source` say where the whole is from. A model that is in no
table has an unknown price, never 0.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from harness.errors import DataError
from harness.files import asset, cache_root
from harness.outside import LARGEST_SETTINGS, LARGEST_TEXT, parse_json, read_text, reason_of
from harness.outside_yaml import parse_yaml
from harness.settings import Settings
from harness.types import JudgeRequest, Price

LARGEST = 100_000.0
"""Dollars per million tokens; a larger price is one per token, or for something else."""
RENEWED = "prices.renewed.json"
"""The file in the cache folder that `harness prices --renew` writes."""
VENDORS = ("openai", "anthropic", "gemini", "google", "mistral", "mistralai", "deepseek", "xai", "x-ai", "cohere")
ROUTES = frozenset({*VENDORS, "azure", "azure_ai", "vertex_ai", "openrouter"})
"""What stands before a model's name, as in `openai/gpt-5.4`, where it is the vendor's own model."""
_SNAPSHOT = re.compile(r"[-@](20\d\d)-?(0[1-9]|1[0-2])-?([0-2]\d|3[01])$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_EXPECTED = "expected one line `MODEL: {input: 2.5, output: 10}` per model, in dollars per million tokens"
_log = logging.getLogger("harness")


def calendar_date(text: Any) -> date | None:
    """The date that a text like `2027-01-14` is; None for anything else."""
    try:
        return date.fromisoformat(text) if isinstance(text, str) and _DATE.fullmatch(text) else None
    except ValueError:
        return None


class Listing(Settings):
    """A model's line in a table: dollars per million tokens, and the day from which it answers no longer. A line
    without prices only has the day."""

    input: float | None = Field(None, ge=0, le=LARGEST)
    output: float | None = Field(None, ge=0, le=LARGEST)
    batch_input: float | None = Field(None, ge=0, le=LARGEST)
    batch_output: float | None = Field(None, ge=0, le=LARGEST)
    retires: date | None = None

    @field_validator("retires", mode="before")
    @classmethod
    def _is_a_day(cls, value: Any) -> date | None:
        # Not pydantic's own reading, which takes numbers for seconds since 1970.
        day = value if isinstance(value, date) else calendar_date(value)
        if day is None and value is not None:
            raise PydanticCustomError("no_date", "expected a date like 2027-01-14")
        return day

    @model_validator(mode="after")
    def _whole(self) -> "Listing":
        for first, second in (("input", "output"), ("batch_input", "batch_output")):
            given = {name for name in (first, second) if dict(self)[name] is not None}
            if len(given) == 1:
                raise PydanticCustomError("half_a_price", f"{first} and {second} belong together; give both")
        if self.batch_input is not None and self.input is None:
            raise PydanticCustomError("only_batch", "batch prices come beside input and output; give these too")
        if self.input is None and self.retires is None:
            raise PydanticCustomError("empty", "neither a price nor a date")
        return self

    @property
    def price(self) -> Price | None:
        if self.input is None or self.output is None:
            return None
        return Price(input=self.input, output=self.output, batch_input=self.batch_input, batch_output=self.batch_output)

    def over(self, older: "Listing | None") -> "Listing":
        """This line before an older one, whose day counts where this one has none. Prices stay together: batch prices
        of the older one are those of other prices, unless these are the same."""
        if older is None:
            return self
        day = self.retires or older.retires
        same = (self.input, self.output) == (older.input, older.output)
        source = older if self.input is None or (same and self.batch_input is None) else self
        return source.model_copy(update={"retires": day})


class PriceFile(NamedTuple):
    """A table as it was read. `as_of`: the day it is from; None: it doesn't say."""

    path: Path
    as_of: date | None
    source: str
    models: Mapping[str, Listing]


class Found(NamedTuple):
    """A model's line. `name`: the model that it is listed under. `is_family`: that is not the dated snapshot that was
    looked up, but the model that it is one of."""

    name: str
    listing: Listing
    is_family: bool


class PriceTable(Mapping[str, Price]):
    """All known prices by model, from `files`, of which later ones go first. A model is found by its exact name, else
    without (or with) its vendor's name before it. A dated snapshot (`gpt-5.4-2026-03-05`) that is not listed is taken
    to cost what its family does, with a warning."""

    def __init__(self, files: Sequence[PriceFile]) -> None:
        self.files = tuple(files)
        self.listings: dict[str, Listing] = {}
        for file in files:
            for model, listing in file.models.items():
                self.listings[model] = listing.over(self.listings.get(model))
        self._warned: set[str] = set()

    def find(self, model: str) -> Found | None:
        """The line of a model; None if it has none."""
        for name in _names(model):
            if name in self.listings:
                return Found(name, self.listings[name], False)
        if (family := _SNAPSHOT.sub("", model)) != model and (found := self.find(family)):
            return found._replace(is_family=True)
        return None

    def retirement(self, model: str) -> tuple[date, str] | None:
        """(the day on which a model retires, the name that it is listed under); None if no day is known. A snapshot
        retires with its family, unless it has a day of its own."""
        found = self.find(model)
        if found and found.listing.retires is None and (family := _SNAPSHOT.sub("", model)) != model:
            found = self.find(family)
        return (found.listing.retires, found.name) if found and found.listing.retires else None

    def __getitem__(self, model: str) -> Price:
        found = self.find(model)
        if found is None or (price := found.listing.price) is None:
            raise KeyError(model)
        if found.is_family and model not in self._warned:
            self._warned.add(model)
            _log.warning("no price of %s is listed; it is taken to cost what %s does", model, found.name)
        return price

    def __iter__(self) -> Iterator[str]:
        return (model for model, listing in self.listings.items() if listing.input is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _names(model: str) -> Iterator[str]:
    """What a model may be listed under."""
    yield model
    bare = model
    while (parts := bare.partition("/"))[0] in ROUTES and parts[2]:
        bare = parts[2]
    yield bare
    if "/" not in bare:
        yield from (f"{vendor}/{bare}" for vendor in VENDORS)


def read_prices(path: Path) -> PriceFile:
    """Read a price table, in YAML or JSON. Raises DataError."""
    try:
        text = read_text(path, LARGEST_TEXT if path.suffix == ".json" else LARGEST_SETTINGS)
        lines = (parse_json(text) if path.suffix == ".json" else parse_yaml(text)) or {}
        as_of, source = (lines.pop(name, None) if isinstance(lines, dict) else None for name in ("as_of", "source"))
        if as_of is not None and calendar_date(as_of) is None:
            raise ValueError("as_of is no date like 2026-11-30")
        models = TypeAdapter(dict[str, Listing]).validate_python(lines)
        return PriceFile(path, calendar_date(as_of), str(source or ""), models)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise DataError(f"price table {path}: {where}: {first['msg']}; {_what_to_do(path)}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"price table {path} can't be read ({reason_of(error)}); {_what_to_do(path)}") from None


def _what_to_do(path: Path) -> str:
    return "delete it, or run harness prices --renew again" if path.name == RENEWED else _EXPECTED


def price_table(path: Path | None = None, *, renewed: bool = True) -> PriceTable:
    """All known prices. `path` goes before the user's own table (`prices.yaml` in the cache folder), that before the
    renewed one (left out if not `renewed`), and that before the shipped one unless it is older. Raises DataError."""
    home = cache_root()
    users = (home / "prices.yaml").resolve()  # the user's own, which may be a link to anywhere
    own = [p for p in ((home / RENEWED, users) if renewed else (users,)) if p.exists()]
    paths = [asset("prices.yaml"), *own, *([path] if path else [])]
    return _table(tuple((p, *_stamp(p)) for p in paths))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return 0, 0  # reading it says what is wrong
    return about.st_mtime_ns, about.st_size


@lru_cache(maxsize=4)  # every stage of a plan asks for it
def _table(stamped: tuple[tuple[Path, int, int], ...]) -> PriceTable:
    files = [read_prices(path) for path, *_ in stamped]
    if len(files) > 1 and files[1].path.name == RENEWED and _day(files[1]) < _day(files[0]):
        files[:2] = [files[1], files[0]]
    return PriceTable(files)


def _day(file: PriceFile) -> date:
    return file.as_of or date.min


def at_most(request: JudgeRequest, price: Price) -> float:
    """The highest possible cost of one call, in dollars: every byte of the prompt is a token, with 16 more tokens per
    message for its markers, and the reply has the maximal length."""
    prompt = sum(len(m.content.encode("utf-8", "replace")) + 16 for m in request.messages) + 16
    return price.of(prompt, request.max_tokens)


def dollars(amount: float | None) -> str:
    """`$1.2345`, or `unknown`."""
    return "unknown" if amount is None else f"${amount:,.2f}" if amount >= 100 else f"${amount:.4f}"
