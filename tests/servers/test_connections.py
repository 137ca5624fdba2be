"""What a user reads where no connection comes about, and how soon."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.components import build
from harness.errors import HarnessError, JudgeError, ModelError
from harness.protocols import Ready, SampleRequest
from harness.servers import served
from harness.servers.proxies import proxy_of
from harness.types import JudgeRequest, Message, Sampling
from tests.fake_server import FakeServer, completion
from tests.servers.raw_server import RawServer, http

REQUEST = JudgeRequest(messages=(Message(role="user", content="u"),))
PROXIES = [f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.fixture(autouse=True)
def short_waits_and_no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.02)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def judge(url: str, **fields: Any) -> Any:
    return build("judge", {"name": "openai", "model": "m", "base_url": url, "timeout": 10} | fields)


def problem(url: str, **fields: Any) -> str:
    """What stops a run, within a few seconds."""
    start = time.monotonic()
    with pytest.raises(JudgeError) as error:
        judge(url, **fields).reply([REQUEST])
    assert time.monotonic() - start < 4
    text = str(error.value)
    assert "\n" not in text
    return text


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_that_is_not_up_stops_the_run_at_once(host: str) -> None:
    port = unused_port()
    text = problem(f"http://{host}:{port}/v1")
    assert text == (
        f"judge 'openai' at http://{host}:{port}/v1: connection refused by {host}:{port}: start the server, or check "
        "base_url"
    )


def test_generators_and_reward_models_say_it_too(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    generator = build("generator", {"name": "openai", "model": "m", "base_url": url})
    request = SampleRequest((Message(role="user", content="u"),), Sampling(), (0, 1, 2))
    with pytest.raises(ModelError, match=r"generator 'openai' at .*: connection refused by"):
        generator.generate([request], seed=0, arrived=lambda rows: None)
    reward = build("reward", {"name": "api", "model": "m", "base_url": url})
    rows = [((Message(role="user", content="u"),), "a")]
    with pytest.raises(ModelError, match=r"reward model 'api' at .*: connection refused by"):
        reward.score(rows, Ready(tmp_path, lambda n: None, None, ()))


def test_a_server_that_starts_just_now_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT", 0.5)
    port = unused_port()

    def start() -> None:
        with socket.create_server(("127.0.0.1", port)) as late, late.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(http(b'{"choices": [{"message": {"content": "ok"}}]}'))

    timer = threading.Timer(0.1, start)
    timer.start()
    assert judge(f"http://127.0.0.1:{port}/v1").reply([REQUEST])[0].text == "ok"
    timer.join()


@pytest.mark.parametrize(("answered", "attempts"), [(True, 7), (False, 3)])
def test_a_server_that_answered_before_is_tried_for_longer(
    monkeypatch: pytest.MonkeyPatch, answered: bool, attempts: int
) -> None:
    last = http(b'{"choices": [{"message": {"content": "ok"}}]}', "Connection: close")
    with RawServer(lambda request, write: write(last)).running() as server:
        made = judge(server.url, max_retries=6)
        if answered:
            assert made.reply([REQUEST])[0].text == "ok"
    calls: list[object] = []
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: calls.append(a) or connect(*a, **k))
    with pytest.raises(JudgeError, match="connection refused"):
        made.reply([REQUEST])
    assert len(calls) == attempts


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def resolve(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(code, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    text = problem("https://judge.invalid/v1", max_retries=1, api_key_env=None)
    assert (
        "the name judge.invalid can't be resolved (Name or service not known): check base_url and the network" in text
    )


@pytest.mark.parametrize("error", [TimeoutError("timed out"), OSError(113, "No route to host")])
def test_a_host_that_is_not_there(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def connect(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    text = problem("http://127.0.0.1:9/v1", max_retries=1)
    assert "no connection to 127.0.0.1:9" in text
    assert text.endswith("check base_url and the network")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for 127.0.0.1, and its certificate, which it signed itself."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs the command openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def answer(request: bytes, write: Callable[[bytes], None]) -> None:
    write(http(b'{"choices": [{"message": {"content": "ok"}}]}'))


def test_a_certificate_that_is_not_trusted(tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = tls
    with RawServer(answer, context).running() as server:
        text = problem(server.url)
        assert "the server's TLS certificate isn't trusted (self" in text
        assert "set SSL_CERT_FILE to the certificate of the authority that signed it" in text
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert judge(server.url).reply([REQUEST])[0].text == "ok"
        assert "Hostname mismatch" in problem(server.url.replace("127.0.0.1", "localhost"))


def test_https_and_http_mixed_up(tls: tuple[ssl.SSLContext, Path]) -> None:
    with FakeServer(lambda body: completion("ok")).running() as plain:
        assert "the server speaks no TLS: write http:// in base_url" in problem(plain.url.replace("http:", "https:"))
    with RawServer(answer, tls[0]).running() as server:
        text = problem(server.url.replace("https:", "http:"), max_retries=1)
        assert text.endswith("closed the connection without a reply; if it speaks HTTPS, write https:// in base_url")
    alert = b"\x15\x03\x01\x00\x02\x02\x46"  # what most servers of TLS answer to plain text
    with RawServer(lambda request, write: write(alert)).running() as server:
        assert "the server speaks HTTPS: write https:// in base_url" in problem(server.url)


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.6", b"220 mail ESMTP", b"\0" * 100, b"HTTP/9.9 x"])
def test_a_server_that_speaks_something_else(banner: bytes) -> None:
    def greet(request: bytes, write: Callable[[bytes], None]) -> None:
        write(banner + b"\r\n\r\n")

    with RawServer(greet).running() as server:
        assert problem(server.url).endswith("the server speaks no HTTP: check base_url")


SERVER = "https://judge.example/v1"


@pytest.mark.parametrize(
    "value",
    [
        "foo://x",
        "http://[::1",
        "http://host:port",
        "http://",
        "://x",
        "http://a b:80",
        "http://host:99999999",
        "ftp://h:21",
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_malformed_proxy_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(HarnessError, match=f"judge 'openai': {name} is not a proxy's address; expected") as error:
        judge(SERVER, api_key_env=None).check()
    assert str(error.value).count(value) == "http://host:3128".count(value)


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:planted-password@127.0.0.1:1080")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="ALL_PROXY names a SOCKS proxy, which needs the package socksio") as error:
        proxy_of(SERVER)
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "address", "auth"),
    [
        ("foo", "http://foo:80", None),
        ("foo:3128", "http://foo:3128", None),
        (" http://foo:3128/ ", "http://foo:3128", None),
        ("http://us%40er:pass%3Aword@foo:3128", "http://foo:3128", ("us@er", "pass:word")),
        ("https://foo", "https://foo:443", None),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None),
    ],
)
def test_a_proxy_is_read(monkeypatch: pytest.MonkeyPatch, value: str, address: str, auth: object) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    proxy = proxy_of(SERVER)
    assert proxy is not None
    assert (proxy.address, proxy.auth) == (address, auth)


@pytest.mark.parametrize(
    ("listed", "exempt"),
    [
        ("judge.example", True),
        ("a.b , judge.example", True),
        ("a.b judge.example", True),
        (".example", True),
        ("example", True),
        ("*.example", True),
        ("*", True),
        ("judge.example:443", True),
        ("JUDGE.example", True),
        ("", False),
        ("udge.example", False),
        ("a.b,,  ,", False),
        ("judge.example.org", False),
    ],
)
def test_hosts_are_exempt_as_listed(monkeypatch: pytest.MonkeyPatch, listed: str, exempt: bool) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://foo:3128")
    monkeypatch.setenv("NO_PROXY", listed)
    assert (proxy_of(SERVER) is None) == exempt


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "socks9://nonsense:[")
    with FakeServer(lambda body: completion("ok")).running() as server:
        assert judge(server.url).reply([REQUEST])[0].text == "ok"


def test_a_request_goes_through_the_proxy_and_its_failure_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = http(b"", status="407 Proxy Authentication Required")
    with RawServer(lambda request, write: write(refusal)).running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{proxy.port}")
        assert "the proxy refused the connection (407" in problem(SERVER, max_retries=1, api_key_env=None)
    assert proxy.requests[0].startswith(b"CONNECT judge.example:443")
    assert b"proxy-authorization: basic dxnlcjp3b3jk" in proxy.requests[0].lower()
    assert "check HTTPS_PROXY" in problem(SERVER, max_retries=1, api_key_env=None)
