"""What a row's base model is called on the hub, in which version, and what its card says of its licence."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import DataError, quoted
from harness.models.builtin.fetch import BUILTIN
from harness.models.checkpoints.adapters import base_of
from harness.outside import LARGEST_TEXT, read_text
from harness.outside_yaml import parse_yaml
from harness.pipeline.export.row import TrainedRow

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAMED = re.compile(r"(?P<model>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_SNAPSHOT = re.compile(r".*/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})")
"""A folder in a Hugging Face cache."""
_HEADER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?\n)---", re.DOTALL)
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")


class Licence(NamedTuple):
    """As a model's card names it: the hub's short name, and for `other` its own name and where it can be read."""

    short: str
    name: str | None = None
    link: str | None = None


class Base(NamedTuple):
    """A base model on the hub. `revision`: a commit, branch or tag; None: not known. `variant`: how the weights that
    were trained on differ from those on the hub; empty where they don't. `licence` None: not known here."""

    model: str
    revision: str | None = None
    variant: str = ""
    licence: Licence | None = None
    languages: tuple[str, ...] = ()


def hub_base(row: TrainedRow, named: str | None, *, adapter: bool) -> Base | None:
    """The base of a row's model, or with `adapter` of the adapter that was trained; None where it is on this machine
    only. `named`: as the user calls it on the hub, `OWNER/NAME` or `OWNER/NAME@REVISION`. Raises DataError for another
    form, and ModelError."""
    if named is not None:
        if (match := _NAMED.fullmatch(named)) is None:
            raise DataError(f"--base: expected OWNER/NAME or OWNER/NAME@REVISION, got {quoted(named)}")
        return _on_hub(match["model"], match["revision"])
    policy = row.policy
    if adapter and row.fine_tuned:
        return None
    if policy["model"] in BUILTIN:
        builtin = BUILTIN[policy["model"]]
        return Base(builtin.hub, None, builtin.variant, Licence(builtin.licence), builtin.languages)
    if "revision" in policy:
        return _on_hub(policy["model"], None if policy["revision"] == "main" else policy["revision"])
    if adapter and (match := _SNAPSHOT.fullmatch(base_of(row.exact).model)):
        return _on_hub(f"{match['owner']}/{match['name']}", match["commit"])
    return None


def is_pinned(base: Base) -> bool:
    """Whether the base's revision can't change."""
    return base.revision is not None and _COMMIT.fullmatch(base.revision) is not None


def _on_hub(model: str, revision: str | None) -> Base:
    licence, languages = _declared(_header_on_hub(model, revision))
    return Base(model, revision, "", licence, languages)


def _header_on_hub(model: str, revision: str | None) -> Any:
    """The fields of a model's card, from this machine's hub cache or from the hub; None where it can't be had."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = try_to_load_from_cache(model, "README.md", revision=revision)
    try:
        if isinstance(cached, str):
            return _header(read_text(Path(cached), LARGEST_TEXT))
        card = HfApi().model_info(model, revision=revision, timeout=10).card_data  # without the retries of a download
        return card.to_dict() if card else None  # type: ignore[no-untyped-call]
    except Exception:  # offline, gated, without a card: errors come in many classes, and the licence is then unknown
        return None


def card_of_folder(folder: Path) -> tuple[Licence | None, tuple[str, ...]]:
    """The licence and languages that the card in a local model's folder names."""
    try:
        return _declared(_header(read_text(folder / "README.md", LARGEST_TEXT, inside=folder)))
    except (OSError, ValueError):  # without a card
        return None, ()


def _header(card: str) -> Any:
    """The fields of a card's header. Raises ValueError."""
    header = _HEADER.match(card)
    return parse_yaml(header[1], any_keys=True) if header else None


def _declared(fields: Any) -> tuple[Licence | None, tuple[str, ...]]:
    """The licence and languages in a card's fields. They are from outside: what isn't of their form is not known."""
    if not isinstance(fields, dict):
        return None, ()
    short, languages = fields.get("license"), fields.get("language")
    listed = languages if isinstance(languages, list) else [languages]
    known = tuple(str(x) for x in listed if isinstance(x, str) and _LANGUAGE.fullmatch(x))
    if not isinstance(short, str) or not _LICENCE.fullmatch(short):
        return None, known
    name, link = fields.get("license_name"), fields.get("license_link")
    return Licence(short, _text(name), _text(link)), known


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200 else None
