"""The keys that a server is sent: by name in the recipe, by value in the environment; and what must not hold one."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.printable import SHORTEST_SECRET, holds_secret, is_secret
from harness.servers.hosts import VARIABLE, refusal
from harness.servers.masking import without_key

NO_KEY = "none-needed"
"""What is sent instead of a key."""
LONGEST_QUERY = 64
"""Characters of the longest value in an address's query."""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OWN_HEADERS = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding"}
)
_SIGNED = re.compile(r"sig|^s[evprt]$|^code$|^pw$", re.IGNORECASE)
"""Parameters of signed addresses, besides what any name of a secret looks like."""


def value_of(variable: str) -> str:
    """The value of a variable, empty if it isn't set. Files of secrets end in a line break, which is no part of it."""
    return os.environ.get(variable, "").strip()


def key_of(variable: str, address: str) -> str:
    """The key in a variable, which is set. Raises ValueError if it is none, or must not be sent to an address."""
    key = value_of(variable)
    if not re.fullmatch(r"[!-~]+", key) or key[0] in "\"'":
        expected = "expected one word of ASCII characters, without quotation marks around it"
        raise ValueError(f"{variable} holds no key; {expected}")
    if reason := refusal(variable, address):
        raise ValueError(reason)
    return key


def header_values(headers: Mapping[str, str], address: str) -> dict[str, str]:
    """The headers with their values from the environment. Raises ValueError for one that isn't set, is no header, or
    must not be sent to an address."""
    values = {}
    for name, variable in headers.items():
        value = value_of(variable)
        if not value:
            raise ValueError(f"headers: {name} is to be the value of {variable}, which is not set: set it")
        if not re.fullmatch(r"[ -~]+", value):
            raise ValueError(f"headers: {variable} holds no header's value; expected one line of ASCII characters")
        if reason := refusal(variable, address):
            raise ValueError(f"headers: {reason}")
        values[name] = value
    return values


def without_secrets(text: str, variables: Iterator[str] | list[str]) -> str:
    """A text of a server with the values of variables masked, also parts like the key in `Bearer KEY`."""
    for variable in variables:
        value = value_of(variable)
        for part in dict.fromkeys([value, *value.split()]):
            if len(part) >= SHORTEST_SECRET:
                text = without_key(text, part)
    return text


def checked_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError unless each is a header of its own and the name of a variable."""
    for name, variable in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError("expected names of headers, without those that every request has")
        if not VARIABLE.fullmatch(variable):
            raise ValueError(f"{name}: expected the name of an environment variable, not the value itself")


def checked_query(query: Mapping[str, str]) -> None:
    """Raises ValueError for what may be a secret: recipes are published on the board."""
    for name, value in query.items():
        if is_secret(name) or _SIGNED.search(name):
            raise ValueError(f"{name[:60]} may be a secret; give it as a header by the name of a variable: headers")
        plain = re.fullmatch(rf"[\w.:,/+-]{{1,{LONGEST_QUERY}}}", value, re.ASCII)
        if not re.fullmatch(r"[\w.-]{1,60}", name, re.ASCII) or not plain or _is_random(value):
            raise ValueError("expected short plain values, such as {api-version: 2025-01-01}")


def checked_body(value: Any, name: str = "") -> None:
    """Raises ValueError for a field of a request that holds a secret."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            checked_body(item, str(key))
    elif isinstance(value, list):
        for item in value:
            checked_body(item, name)
    elif isinstance(value, str) and (holds_secret(value) or (is_secret(name) and _is_random(value))):
        raise ValueError(f"{name[:60]} holds a secret, and recipes are published on the board: use headers")


def _is_random(value: str) -> bool:
    """Whether a text looks drawn rather than written: one long word of letters and digits."""
    return any(
        len(word) >= 20 and re.search(r"[0-9]", word) and re.search(r"[A-Za-z]", word)
        for word in re.split(r"[\s/:,.]+", value)
    )
