"""Which proxy leads to a server, from the environment: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case.

A server on this machine is never reached through a proxy.
"""

import importlib.util
import os
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment

from harness.servers.hosts import is_loopback

SCHEMES = ("http", "https", "socks5", "socks5h")


class Proxy(NamedTuple):
    """`variable`: the one that names it. `address`: without user and password, which are in `auth`."""

    variable: str
    scheme: str
    address: str
    auth: tuple[str, str] | None


def proxy_of(url: str) -> Proxy | None:
    """The proxy for a server's address. Raises ValueError, which names the variable and doesn't repeat its value, since
    that may hold a password."""
    address = urlsplit(url)
    proxies = getproxies_environment()
    scheme = address.scheme if proxies.get(address.scheme) else "all"
    if not proxies.get(scheme) or is_loopback(address.hostname):
        return None
    if _is_exempt(address.hostname or "", proxies.get("no", "")):
        return None
    return _parsed(proxies[scheme], _variable(scheme))


def _is_exempt(host: str, listed: str) -> bool:
    """Whether NO_PROXY lists a host, a domain that it is in, or `*`. Ports in the list are ignored."""
    for entry in re.split(r"[\s,]+", listed.lower()):
        name = re.sub(r"(?<=[^:]):[0-9]+$", "", entry).removeprefix("*").lstrip(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
    return False


def _variable(scheme: str) -> str:
    """The variable's name as it is spelt in the environment."""
    name = f"{scheme}_proxy"
    return name if os.environ.get(name) else name.upper()


def _parsed(value: str, variable: str) -> Proxy:
    value = value.strip()
    expected = "expected an address like http://host:3128; correct it, unset it, or list the server's host in NO_PROXY"
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        port = url.port
        host = (url.hostname or "").encode("idna").decode()
    except ValueError:  # UnicodeError among them
        raise ValueError(f"{variable} is not a proxy's address; {expected}") from None
    if url.scheme not in SCHEMES or not re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        raise ValueError(f"{variable} is not a proxy's address; {expected}")
    if url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ValueError(
            f"{variable} names a SOCKS proxy, which needs the package socksio: pip install socksio; or list the "
            "server's host in NO_PROXY"
        )
    place = f"[{host}]" if ":" in host else host
    default = 1080 if url.scheme.startswith("socks") else 443 if url.scheme == "https" else 80
    auth = None if url.username is None else (unquote(url.username), unquote(url.password or ""))
    return Proxy(variable, url.scheme, f"{url.scheme}://{place}:{port or default}", auth)
