"""Keys go only to hosts that the user's own settings allow."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import DataError, HarnessError, JudgeError
from harness.judges.openai import Openai
from harness.servers.hosts import ALLOWED, VENDORS, allowing, is_loopback, place_of
from harness.types import JudgeRequest, Message
from tests.fake_server import FakeServer, completion

KEY = "sk-planted-0123456789"
REMOTE = "https://judge.example/v1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder with settings; the keys in OPENAI_API_KEY, HF_TOKEN and MY_KEY."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    monkeypatch.delenv(ALLOWED, raising=False)
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "MY_KEY"):
        monkeypatch.setenv(name, KEY)
    return tmp_path


def judge(address: str | None, variable: str | None = "OPENAI_API_KEY", **fields: Any) -> Openai:
    return Openai(name="openai", model="m", base_url=address, api_key_env=variable, **fields)


def refused(address: str, variable: str | None = "OPENAI_API_KEY") -> str:
    made = judge(address, variable)
    with pytest.raises(JudgeError) as caught:
        made.check()
    with pytest.raises(JudgeError):
        made._connect()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert KEY not in message
    return message


LOOPBACK = ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]
NOT_LOOPBACK = [
    *("127.0.0.1.judge.example", "localhost.judge.example", "judge.example", "localhost.", "x.localhost", "0.0.0.0"),
    *("10.0.0.1", "192.168.0.7", "[::]", "[::ffff:10.0.0.1]", "[::2]", "127-0-0-1.judge.example", "localhost-x"),
    *("169.254.169.254", "metadata.google.internal", "127.0.0.1x"),
]
NO_HOST = [
    *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0", "0x7f.0.0.1", "1.1.1.1.1"),
    *("localhost@judge.example", "user:pw@127.0.0.1", "127.0.0.1\\@judge.example", "127.0.0.1%2ejudge.example"),
    *(
        "127。0。0。1",
        "ⓛocalhost",
        "127.0.0.1\u200b",
        "127.0.0.1 .judge.example",
        "[::1%25eth0]",
        "[::1].judge.example",
    ),
    *("127.0.0.1:99999", "", ":80", "[::1", "127.0.0.1\t.judge.example"),
]


class TestMachine:
    """Loopback, whatever is written to look like it."""

    @pytest.mark.parametrize("host", LOOPBACK)
    @pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "HF_TOKEN", "MY_KEY"])
    def test_it_may_be_sent_any_key(self, host: str, variable: str) -> None:
        assert judge(f"http://{host}:8000/v1", variable)._key() == KEY
        judge(f"https://{host}/v1", variable).check()

    @pytest.mark.parametrize("host", NOT_LOOPBACK)
    def test_other_hosts(self, host: str) -> None:
        assert not is_loopback(place_of(f"http://{host}").host)
        for scheme in ("http", "https"):
            assert "is not sent" in refused(f"{scheme}://{host}/v1")

    @pytest.mark.parametrize("host", NO_HOST)
    def test_what_programs_may_read_differently(self, host: str) -> None:
        with pytest.raises(ValidationError):
            judge(f"http://{host}/v1")


class TestVendors:
    """A vendor's own host and variable."""

    @pytest.mark.parametrize(("variable", "host"), [(name, host) for name, hosts in VENDORS.items() for host in hosts])
    def test_its_own_key(self, variable: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(variable, KEY)
        assert judge(f"https://{host}/v1", variable)._key() == KEY
        assert judge(f"https://{host.upper()}:443/v1", variable)._key() == KEY
        assert "unencrypted" in refused(f"http://{host}/v1", variable)
        refused(f"https://{host}:8443/v1", variable)
        refused(f"https://{host}.judge.example/v1", variable)
        refused(f"https://x.{host}/v1", variable)
        assert f"own key is in {variable}" in refused(f"https://{host}/v1", "MY_KEY") or variable == "GOOGLE_API_KEY"

    def test_the_default_address(self) -> None:
        assert judge(None)._key() == KEY
        with pytest.raises(JudgeError, match=r"HF_TOKEN is not sent to api.openai.com.*own key is in OPENAI_API_KEY"):
            judge(None, "HF_TOKEN").check()


class TestPermissions:
    """`--allow-host`, HARNESS_ALLOW_HOSTS and hosts.yaml."""

    @pytest.mark.parametrize(
        ("allowed", "address", "may"),
        [
            ("judge.example", REMOTE, True),
            ("JUDGE.example", REMOTE, True),
            ("https://judge.example/v1", REMOTE, True),
            ("judge.example", "https://judge.example:8443/v1", True),
            ("judge.example:8443", "https://judge.example:8443/v1", True),
            ("judge.example:8443", REMOTE, False),
            ("judge.example:443", REMOTE, True),
            ("judge.example", "http://judge.example/v1", False),
            ("http://judge.example", "http://judge.example:8000/v1", True),
            ("http://judge.example", REMOTE, False),
            ("http://10.0.0.7:8000", "http://10.0.0.7:8000/v1", True),
            ("http://10.0.0.7:8000", "http://10.0.0.7:8001/v1", False),
            ("http://[fd00::7]:8000", "http://[fd00:0::7]:8000/v1", True),
            ("judge.example", "https://x.judge.example/v1", False),
            ("example", REMOTE, False),
            ("judge.example=OPENAI_API_KEY", REMOTE, True),
            ("judge.example=MY_KEY", REMOTE, False),
            ("judge.example=MY_KEY,OPENAI_API_KEY", REMOTE, True),
        ],
    )
    def test_a_host(self, allowed: str, address: str, may: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        with allowing([allowed]):
            assert judge(address)._key() == KEY if may else refused(address)
        refused(address)
        monkeypatch.setenv(ALLOWED, f"other.example {allowed}")
        assert judge(address)._key() == KEY if may else refused(address)

    def test_the_line_says_what_to_type(self) -> None:
        for address in (REMOTE, "http://10.0.0.7:8000/v1", "http://[fd00::7]:8000/v1", "https://judge.example:8443/v1"):
            said = refused(address)
            with allowing([said.partition("--allow-host ")[2].partition(";")[0]]):
                judge(address).check()
                refused(address, "HF_TOKEN")

    @pytest.mark.parametrize("host", ["*", "a b", "ftp://x", "user@x", "x=", "x=A B", "x=1", "", "127.1", "https://"])
    def test_what_is_no_host_is_one_line(self, host: str) -> None:
        with (
            pytest.raises(HarnessError, match=r"is no host.*expected HOST, HOST:PORT or http://HOST"),
            allowing([host]),
        ):
            pass

    def test_the_users_file(self, home: Path) -> None:
        text = "judge.example: [OPENAI_API_KEY, MY_KEY]\nhttp://10.0.0.7:8000: MY_KEY\n"
        (home / "hosts.yaml").write_text(text)
        judge(REMOTE).check()
        judge("http://10.0.0.7:8000/v1", "MY_KEY").check()
        refused("http://10.0.0.7:8000/v1")
        refused(REMOTE, "HF_TOKEN")

    @pytest.mark.parametrize(
        "text",
        ["- a", "a", "judge.example:", "judge.example: 3", "judge.example: [1]", "judge.example: ['a b']", "a: ["],
    )
    def test_a_wrong_file_is_one_line(self, home: Path, text: str) -> None:
        (home / "hosts.yaml").write_text(text)
        with pytest.raises(DataError, match=r"hosts\.yaml.*expected lines like `judge.example.org: \[JUDGE_KEY\]`"):
            judge(REMOTE).check()
        judge("http://127.0.0.1:1/v1").check()  # needs no permission

    @pytest.mark.slow  # two processes
    def test_workers_of_a_cluster_and_child_processes_get_the_same(self) -> None:
        from harness.engine.cluster.execute import PASSED

        assert {ALLOWED, "HARNESS_HOME"} <= set(PASSED)
        code = (
            f"from harness.judges.openai import Openai; Openai(name='openai', model='m', base_url='{REMOTE}').check()"
        )
        command = [sys.executable, "-c", code]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        with allowing(["judge.example=OPENAI_API_KEY"]):
            subprocess.run(command, check=True)

    def test_an_answer_in_a_terminal(self) -> None:
        asked: list[tuple[str, str]] = []

        def answer(variable: str, place: object) -> bool:
            asked.append((variable, str(place)))
            return variable == "OPENAI_API_KEY"

        with allowing([], answer):
            judge(REMOTE).check()
            judge(REMOTE).check()
            refused("https://judge.example:8443/v1", "HF_TOKEN")
        assert asked[:2] == [("OPENAI_API_KEY", "judge.example"), ("HF_TOKEN", "judge.example:8443")]
        assert ALLOWED not in os.environ
        refused(REMOTE)


class TestWithoutKeys:
    """Servers that need none, and keys that are missing or malformed."""

    def test_a_server_in_the_users_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert judge("http://10.0.0.7:8000/v1", None)._key() == "none-needed"
        monkeypatch.delenv("OPENAI_API_KEY")
        default = Openai(name="openai", model="m", base_url="http://10.0.0.7:8000/v1")
        assert default._key() == "none-needed"

    @pytest.mark.parametrize(
        ("address", "variable"), [(None, None), (REMOTE, "NO_SUCH"), ("http://10.0.0.7", "NO_SUCH")]
    )
    def test_a_missing_key(self, address: str | None, variable: str | None) -> None:
        with pytest.raises(JudgeError, match="needs a key: "):
            judge(address, variable).check()

    @pytest.mark.parametrize(
        "key", [f"“{KEY}”", f'"{KEY}"', f"{KEY}\n{KEY}", f"{KEY} {KEY}", f"{KEY}\x00"[:-1] + "\x01", "ключ"]
    )
    def test_a_malformed_key_is_not_sent(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_KEY", key)
        assert "MY_KEY holds no key" in refused("http://127.0.0.1:1/v1", "MY_KEY")

    def test_a_line_break_at_the_end_is_not_part_of_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_KEY", f" {KEY}\r\n")
        assert judge("http://127.0.0.1:1/v1", "MY_KEY")._key() == KEY


class TestRequests:
    """What arrives at a server."""

    def test_openais_other_variables_go_to_openai_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_ORG_ID", "org-planted")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "project-planted")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Planted: {KEY}")
        for address, may in ((None, True), (REMOTE, False), ("http://10.0.0.7:8000/v1", False)):
            with allowing(["judge.example=MY_KEY"]):
                client = judge(address, "OPENAI_API_KEY" if may else "MY_KEY" if address == REMOTE else None)._connect()
            sent = str(dict(client.default_headers))
            assert ("planted" in sent.replace(f"Bearer {KEY}", "")) == may
        assert os.environ["OPENAI_ORG_ID"] == "org-planted"

    def test_a_redirect_gets_no_key(self) -> None:
        request = JudgeRequest(messages=(Message(role="user", content="hi"),))
        with (
            FakeServer(lambda _: completion("stolen")).running() as thief,
            FakeServer(lambda _: (307, b"", {"Location": thief.url + "/chat/completions"})).running() as server,
            pytest.raises(JudgeError, match="the server redirects to") as caught,
        ):
            judge(server.url, "MY_KEY", max_retries=0).reply([request])
        assert KEY not in str(caught.value)
        assert thief.requests == []
        assert len(server.requests) == 1
