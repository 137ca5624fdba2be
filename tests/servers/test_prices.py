"""Where a model's price and its last day are found, and what litellm's price data becomes."""

import json
import logging
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import DataError
from harness.files import cache_root
from harness.judging.renewal import listings, renew
from harness.judging.retirements import retirement, today
from harness.servers.prices import price_table
from harness.types import Price
from tests.fake_server import FakeServer

DAY = date(2026, 11, 30)


def user_table(text: str) -> None:
    (cache_root() / "prices.yaml").write_text(text)


def litellm(**models: Any) -> bytes:
    spec = {"mode": "one of: chat, embedding", "input_cost_per_token": 0.0, "deprecation_date": "date in YYYY-MM-DD"}
    image = {"mode": "image_generation", "output_cost_per_image": 0.04}
    return json.dumps({"sample_spec": spec, "dall-e-2": image, **models}).encode()


def chat(paid: Any = 2e-6, reply: Any = 8e-6, **more: Any) -> dict[str, Any]:
    return {"mode": "chat", "input_cost_per_token": paid, "output_cost_per_token": reply, **more}


# Looking up.


@pytest.mark.parametrize("name", ["judge-9", "openai/judge-9", "openrouter/openai/judge-9", "azure/judge-9"])
def test_a_vendor_before_the_name_is_left_out(name: str) -> None:
    user_table("judge-9: {input: 3, output: 4}\n")
    assert price_table()[name] == Price(input=3, output=4)


@pytest.mark.parametrize("name", ["somebody/judge-9", "judge-9-mini", "judge", "openai/", "judge-9/"])
def test_other_names_are_not_known(name: str) -> None:
    user_table("judge-9: {input: 3, output: 4}\n")
    assert price_table().get(name) is None


def test_the_exact_name_goes_first_and_a_vendors_name_is_found_without_it() -> None:
    user_table(
        "judge-9: {input: 3, output: 4}\nazure/judge-9: {input: 5, output: 6}\ngemini/g-9: {input: 1, output: 2}\n"
    )
    table = price_table()
    assert table["azure/judge-9"].input == 5
    assert table["openai/judge-9"].input == 3
    assert table["g-9"].input == 1


@pytest.mark.parametrize(
    "name", ["judge-9-2026-03-05", "openai/judge-9-2026-03-05", "judge-9-20260305", "judge-9@20260305"]
)
def test_a_snapshot_costs_what_its_family_does_with_a_word(name: str, caplog: pytest.LogCaptureFixture) -> None:
    user_table("judge-9: {input: 3, output: 4}\n")
    table = price_table()
    with caplog.at_level(logging.WARNING, "harness"):
        assert table.get(name) == table.get(name) == Price(input=3, output=4)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"no price of {name} is listed; it is taken to cost what judge-9 does"


def test_a_snapshot_that_is_listed_has_its_own_price(caplog: pytest.LogCaptureFixture) -> None:
    user_table(
        "judge-9: {input: 3, output: 4}\njudge-9-2026-03-05: {input: 9, output: 9}\n"
        "j-1-2025-01-01: {retires: 2026-01-01}\nj-1: {input: 1, output: 1}\n"
    )
    assert price_table()["judge-9-2026-03-05"].input == 9
    assert price_table().get("j-1-2025-01-01") is None  # its line says that its price isn't known
    assert not caplog.records


def test_a_users_line_keeps_the_shipped_day_and_drops_batch_prices_of_other_prices() -> None:
    assert price_table()["gpt-4.1"].in_batch() == Price(input=1, output=4)
    user_table("gpt-4.1: {input: 3, output: 4}\ngpt-5.4: {retires: 2027-05-05}\n")
    table = price_table()
    assert table["gpt-4.1"].in_batch() == Price(input=3, output=4)  # an upper bound
    assert table.retirement("gpt-4.1") == (date(2027, 1, 14), "gpt-4.1")
    assert (table["gpt-5.4"].input, table.retirement("gpt-5.4")) == (2.5, (date(2027, 5, 5), "gpt-5.4"))


# Retiring.


@pytest.mark.parametrize(
    ("model", "day", "said"),
    [
        ("gpt-4.1", date(2026, 11, 30), "gpt-4.1 retires on 2027-01-14 (in 45 days)"),
        ("gpt-4.1", date(2026, 11, 15), "gpt-4.1 retires on 2027-01-14 (in 60 days)"),
        ("gpt-4.1", date(2026, 11, 14), None),
        ("gpt-4.1", date(2027, 1, 13), "gpt-4.1 retires on 2027-01-14 (in 1 day)"),
        ("gpt-4.1", date(2027, 1, 14), "gpt-4.1 retired on 2027-01-14 (today)"),
        (
            "openai/gpt-4.1",
            date(2027, 1, 15),
            "openai/gpt-4.1 retired on 2027-01-14 (1 day ago, by the date of gpt-4.1)",
        ),
        ("gpt-4.1-2025-04-14", DAY, "gpt-4.1-2025-04-14 retires on 2027-01-14 (in 45 days, by the date of gpt-4.1)"),
        ("gpt-5.4", DAY, None),
        ("nobody-knows", DAY, None),
    ],
)
def test_a_model_that_retires_is_named_from_sixty_days_before(model: str, day: date, said: str | None) -> None:
    assert retirement(model, price_table(), day) == said


RECIPE = """\
name: x
policy: {{model: smollm2-135m-instruct, dtype: float32}}
data: {{seeds: [{{name: builtin, limit: 8}}]}}
evaluation:
  judge:
    name: panel
    judges: [{{name: openai, model: old, base_url: {url}}}, {{name: openai, model: new, base_url: {url}}}]
  benchmarks: [{{name: mt_bench, questions: builtin, limit: 3}}]
"""


def test_validate_and_plan_warn_of_judges_that_retire_and_plan_says_how_to_give_a_price(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(RECIPE.format(url="http://127.0.0.1:9/v1"))
    day = today() + timedelta(days=20)
    user_table(f"old: {{input: 1, output: 1, retires: {day}}}\n")
    checked = CliRunner().invoke(app, ["validate", "--offline", str(tmp_path / "x.yaml")])
    assert (checked.exit_code, checked.stdout.count("fine")) == (0, 1)
    (line,) = checked.stderr.splitlines()
    assert f"warning: judge old retires on {day} (in 20 days)" in line
    planned = CliRunner().invoke(app, ["plan", str(tmp_path / "x.yaml")], env={"COLUMNS": "300"})
    assert planned.exit_code == 0, planned.output
    assert f"judge old retires on {day} (in 20 days)" in planned.stdout
    assert "the price of new is not known; set the judge's `price: {input: ..., output: ...}`" in planned.stdout
    assert "the price of old" not in planned.stdout


# Renewing.


def test_litellms_prices_are_dollars_per_token() -> None:
    models, left_out = listings(
        litellm(
            a=chat(1.5e-7, 6e-7, input_cost_per_token_batches=7.5e-8, output_cost_per_token_batches=3e-7),
            b=chat(deprecation_date="2027-01-14", output_cost_per_reasoning_token=9e-6),
            gone={"mode": "chat", "deprecation_date": "2026-10-23"},
            free=chat(0.0, 0.0),
            unpriced={"mode": "chat", "input_cost_per_token": None},
            embedding={"mode": "embedding", "input_cost_per_token": 1e-7, "output_cost_per_token": 0.0},
            undated=chat(deprecation_date="soon"),
        ),
        "f.json",
    )
    plain = {name: listing.model_dump(mode="json", exclude_none=True) for name, listing in models.items()}
    assert plain == {
        "a": {"input": 0.15, "output": 0.6, "batch_input": 0.075, "batch_output": 0.3},
        "b": {"input": 2, "output": 9, "retires": "2027-01-14"},
        "gone": {"retires": "2026-10-23"},
        "undated": {"input": 2, "output": 8},
    }
    assert left_out == 5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (litellm(a=chat(), b=chat(-1e-6)), "b: input_cost_per_token is -1e-06; expected dollars per token"),
        (
            litellm(b=chat(2.5, 10)),
            "b: input_cost_per_token is 2.5; expected dollars per token, a number from 0 to 0.1",
        ),
        (litellm(b=chat("2e-6")), "b: input_cost_per_token is '2e-6'"),
        (litellm(b=chat(True)), "b: input_cost_per_token is True"),
        (b'{"b": {"mode": "chat", "input_cost_per_token": NaN}}', "is not JSON (NaN is not a figure"),
        (b'{"b": {"mode": "chat", "input_cost_per_token": 1e999}}', "is not JSON"),
        (litellm(b=chat(output_cost_per_token_batches=-1)), "b: output_cost_per_token_batches is -1"),
        (b"gpt: {input: 1, output: 2}", "is not JSON"),
        (b"<html>not found</html>", "is not JSON"),
        (b"[1]", "an object with one object a model"),
        (litellm(), "lists no chat model with a price"),
        (b"", "is not JSON"),
    ],
)
def test_what_cant_be_right_is_refused_in_a_line_and_changes_nothing(data: bytes, said: str, tmp_path: Path) -> None:
    (path := tmp_path / "f.json").write_bytes(data)
    done = CliRunner().invoke(app, ["prices", "--renew", str(path)])
    assert isinstance(done.exception, DataError)
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)
    assert len(str(done.exception)) < 400
    assert not list(cache_root().glob("prices*"))


def test_a_renewal_goes_between_the_shipped_table_and_the_users_own(tmp_path: Path) -> None:
    own = "# mine\ngpt-4o: {input: 1, output: 2}\nmine: {input: 3, output: 4}\n"
    user_table(own)
    data = {"gpt-5.4": chat(3e-6, 16e-6, deprecation_date="2027-09-09"), "gpt-4o": chat(), "new-1": chat()}
    (path := tmp_path / "f.json").write_bytes(litellm(**data))
    done = renew(str(path), today())
    assert (done.models, done.left_out, done.new, done.own) == (3, 2, 1, ("gpt-4o",))
    assert done.changes == ("gpt-5.4: $2.5 / $15 -> $3 / $16, retires 2027-09-09",)
    table = price_table()
    assert [table[name].input for name in ("gpt-5.4", "gpt-4o", "new-1", "mine", "gpt-4.1")] == [3, 1, 2, 3, 2]
    assert (cache_root() / "prices.yaml").read_text() == own
    assert renew(str(path), today()).changes == ()


def test_a_spoilt_renewal_is_renewed(tmp_path: Path) -> None:
    (cache_root() / "prices.renewed.json").write_text('{"gpt-4o": {"inp')
    with pytest.raises(DataError, match="delete it, or run harness prices --renew again"):
        price_table()
    (path := tmp_path / "f.json").write_bytes(litellm(**{"new-1": chat()}))
    assert renew(str(path), today()).new == 1
    assert price_table()["new-1"].input == 2


def test_a_renewal_of_an_old_file_goes_after_a_newer_shipped_table(tmp_path: Path) -> None:
    import os

    (path := tmp_path / "f.json").write_bytes(litellm(**{"gpt-5.4": chat(9e-6, 9e-6), "only-there": chat()}))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    renew(str(path), DAY)
    assert price_table()["gpt-5.4"].input == 2.5
    assert price_table()["only-there"].input == 2


def test_prices_are_downloaded_and_shown() -> None:
    with FakeServer(lambda _: {}).running() as server:  # it answers no GET
        done = CliRunner().invoke(app, ["prices", "--renew", f"{server.url}/prices.json"])
    assert isinstance(done.exception, DataError)
    assert "can't be downloaded (HTTP 501)" in str(done.exception)
    done = CliRunner().invoke(app, ["prices", "--renew", "http://prices.example.org/x.json"])
    assert "prices are downloaded by https only" in str(done.exception)
    shown = CliRunner().invoke(app, ["prices", "gpt-4.1"], env={"COLUMNS": "120"})
    assert "gpt-4.1-mini" in shown.stdout
    assert "2027-01-14" in shown.stdout
    assert "gpt-5.4" not in shown.stdout
    assert "as of 2026-11-30 (" in shown.stdout


def test_a_word_that_no_model_has_is_a_line_that_says_how_to_give_a_price() -> None:
    done = CliRunner().invoke(app, ["prices", "gpt-5.44"])
    assert "no model with 'gpt-5.44' in any price table; did you mean 'gpt-5.4'?" in str(done.exception)
    assert "the judge's own `price`" in str(done.exception)
