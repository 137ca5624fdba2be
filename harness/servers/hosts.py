"""Which host may be sent which key. A recipe may be a stranger's: the user decides where a key goes.

The value of an environment variable is sent to a host only if

- the host is this machine, or
- the host is a vendor's and the variable is that vendor's own (`VENDORS`), or
- the user allows it: with `--allow-host HOST`, in the variable HARNESS_ALLOW_HOSTS (several, with spaces between), in
  `$HARNESS_HOME/hosts.yaml`, or by an answer in a terminal.

All but the first need https; the user can allow `http://HOST`.
"""

import ipaddress
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from harness.children.start import in_environment
from harness.errors import DataError, HarnessError, quoted
from harness.files import cache_root
from harness.outside import LARGEST_SETTINGS, read_text, reason_of
from harness.outside_yaml import parse_yaml

ALLOWED = "HARNESS_ALLOW_HOSTS"
"""The variable with the permissions for this process and those that it starts."""
FILE = "hosts.yaml"
PORTS = {"http": 80, "https": 443}

VENDORS: dict[str, tuple[str, ...]] = {
    "OPENAI_API_KEY": (
        "api.openai.com",
        *(f"{region}.api.openai.com" for region in ("us", "eu", "ae", "au", "in", "jp")),
    ),
    "ANTHROPIC_API_KEY": ("api.anthropic.com",),
    "CEREBRAS_API_KEY": ("api.cerebras.ai",),
    "COHERE_API_KEY": ("api.cohere.ai", "api.cohere.com"),
    "DASHSCOPE_API_KEY": ("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    "DEEPINFRA_API_KEY": ("api.deepinfra.com",),
    "DEEPSEEK_API_KEY": ("api.deepseek.com",),
    "FIREWORKS_API_KEY": ("api.fireworks.ai",),
    "GEMINI_API_KEY": ("generativelanguage.googleapis.com",),
    "GOOGLE_API_KEY": ("generativelanguage.googleapis.com",),
    "GROQ_API_KEY": ("api.groq.com",),
    "HF_TOKEN": ("router.huggingface.co",),
    "MISTRAL_API_KEY": ("api.mistral.ai",),
    "NVIDIA_API_KEY": ("integrate.api.nvidia.com",),
    "OPENROUTER_API_KEY": ("openrouter.ai",),
    "PERPLEXITY_API_KEY": ("api.perplexity.ai",),
    "TOGETHER_API_KEY": ("api.together.xyz",),
    "XAI_API_KEY": ("api.x.ai",),
}
"""The vendors' hosts by the variable in which their documentation keeps the key."""

AMBIENT = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")
"""Variables whose values the `openai` package adds to every request, whatever its address."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of an environment variable."""


class Place(NamedTuple):
    """Where requests go. `host` in lower case. `port` None, in a permission: every port."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """As `--allow-host` takes it: without https and its port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port in (None, PORTS[self.scheme]) else f":{self.port}"
        return f"{'http://' if self.scheme == 'http' else ''}{host}{port}"


class Permission(NamedTuple):
    """`variables` None: all."""

    place: Place
    variables: frozenset[str] | None

    def allows(self, variable: str, place: Place) -> bool:
        same_host = (self.place.scheme, self.place.host) == (place.scheme, place.host)
        same_port = self.place.port in (None, place.port)
        return same_host and same_port and (self.variables is None or variable in self.variables)


Question = Callable[[str, Place], bool]
"""Asks the user whether the key in a variable may be sent to a place."""
_question: list[Question] = []
_ambient_lock = threading.Lock()


def place_of(address: str) -> Place:
    """Where an http(s) address leads. Raises ValueError for one that programs may read differently: with a user, a
    backslash, white space, or a host that is neither a plain name nor an IP address in its usual form."""
    if not address.isascii() or not address.isprintable() or re.search(r"[\\@ ]", address):
        raise ValueError("expected a plain address in ASCII (xn--... for a host in other letters), without a user")
    url = urlsplit(address)  # raises ValueError for a malformed address
    host = url.hostname or ""
    if url.scheme not in PORTS or not host:
        raise ValueError("expected an http(s) address like http://host:8000/v1")
    if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\](:[0-9]*)?|[A-Za-z0-9._-]+(:[0-9]*)?", url.netloc):
        raise ValueError("expected a host's name or IP address, and a port if need be")
    # Resolvers also read 127.1, 0x7f000001 and 2130706433 as addresses: only the usual form is accepted.
    if ":" in host or re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)?)*", host):
        host = str(ipaddress.ip_address(host))
    return Place(url.scheme, host, url.port or PORTS[url.scheme])


def is_loopback(host: str | None) -> bool:
    """Whether a host's name or address is this machine's own and can't be another's."""
    if host is None or host.lower() == "localhost":
        return host is not None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def refusal(variable: str, address: str) -> str | None:
    """Why the key in a variable is not sent to an address, and what to do about it; None if it may be sent. In a
    terminal the user may be asked first. Raises DataError for settings that can't be read."""
    place = place_of(address)
    if _is_allowed(variable, place):
        return None
    if _question and _question[-1](variable, place):
        os.environ[ALLOWED] = f"{os.environ.get(ALLOWED, '')} {place}={variable}".strip()
        return None
    unsafe = " unencrypted" if place.scheme == "http" else ""
    own = [name for name, hosts in VENDORS.items() if place.host in hosts]
    other = f"that host's own key is in {own[0]}" if own else "if the server needs no key, set api_key_env: null"
    if place.host in ("0.0.0.0", "::"):
        other = "write 127.0.0.1 for this machine"
    return (
        f"the key in {variable} is not sent{unsafe} to {place}, because your settings don't allow it; "
        f"to allow it: --allow-host {place}={variable}; {other}"
    )


def is_vendor(place: Place) -> bool:
    """Whether a host is a vendor's."""
    return any(place.host in hosts for hosts in VENDORS.values())


def _is_allowed(variable: str, place: Place) -> bool:
    # OpenAI's other variables go with its key.
    vendors = VENDORS.get("OPENAI_API_KEY" if variable in AMBIENT else variable, ())
    if is_loopback(place.host) or (place.host in vendors and place[::2] == ("https", 443)):
        return True
    return any(permission.allows(variable, place) for permission in _permissions())


@contextmanager
def ambient_settings(address: str) -> Iterator[None]:
    """While this is open, the `openai` package finds in the environment only what may be sent to an address."""
    with _ambient_lock:
        place = place_of(address)
        hidden = [name for name in AMBIENT if os.environ.get(name) and not _is_allowed(name, place)]
        with in_environment(dict.fromkeys(hidden)):
            yield


@contextmanager
def allowing(hosts: Sequence[str] | None, question: Question | None = None) -> Iterator[None]:
    """Allow hosts, as in `--allow-host`, and answers to `question`, as long as this is open. Raises HarnessError."""
    if not hosts and question is None:
        yield
        return
    for host in hosts or ():
        _permission(host, f"--allow-host {quoted(host)[1:-1]}")
    with in_environment({ALLOWED: " ".join([*(hosts or ()), os.environ.get(ALLOWED, "")]).strip()}):
        _question.extend([question] if question else [])
        try:
            yield
        finally:
            del _question[len(_question) - bool(question) :]


def _permissions() -> list[Permission]:
    permissions = [_permission(text, ALLOWED) for text in os.environ.get(ALLOWED, "").split()]
    path = cache_root() / FILE
    expected = (
        "expected lines like `judge.example.org: [JUDGE_KEY]`, a host and the variables whose keys it may be sent"
    )
    try:
        content = parse_yaml(read_text(path.resolve(), LARGEST_SETTINGS)) or {}
    except FileNotFoundError:
        return permissions
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({reason_of(error)}); {expected}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: {expected}")
    for host, names in content.items():
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(n, str) and VARIABLE.fullmatch(n) for n in names):
            raise DataError(f"{path}: {quoted(host)}: {expected}")
        permissions.append(Permission(_permission(host, str(path)).place, frozenset(names)))
    return permissions


def _permission(text: str, where: str) -> Permission:
    """`[http[s]://]HOST[:PORT][/...][=VARIABLE[,VARIABLE]]`. Raises HarnessError."""
    host, equals, names = text.partition("=")
    variables = frozenset(names.split(",")) if equals else None
    try:
        place = place_of(host if "://" in host else f"https://{host}")
        if any(not VARIABLE.fullmatch(name) for name in variables or ()):
            raise ValueError("expected the names of variables after the equals sign")
    except ValueError as error:
        expected = "expected HOST, HOST:PORT or http://HOST, with =VARIABLE to allow a single key"
        raise HarnessError(f"{where}: {quoted(text)} is no host ({error}); {expected}") from None
    with_port = re.search(r":[0-9]+$", urlsplit(host if "://" in host else f"https://{host}").netloc)
    return Permission(place if with_port else place._replace(port=None), variables)
