"""`${NAME}`: filled in only in paths and addresses, never from a secret, and recorded as written."""

import json
import pickle
from pathlib import Path

import pytest

from harness.judges.openai import Openai
from harness.recipe.load import load_recipe, load_study, recipe_dict
from harness.recipe.recipe import Recipe
from tests.a_recipe import RECIPE, edited, load, refused

JUDGE = "{name: local, model: smollm2-135m-instruct}"
HUSH = "the-value-of-a-variable"


def with_address(address: str) -> str:
    return edited(JUDGE, f'{{name: openai, model: m, base_url: "{address}"}}')


def judge_of(recipe: Recipe) -> Openai:
    assert recipe.evaluation is not None
    assert isinstance(recipe.evaluation.judge, Openai)
    return recipe.evaluation.judge


def recorded(recipe: Recipe) -> str:
    return json.dumps(recipe_dict(recipe))


class TestPlaces:
    """Paths, folders of models, and addresses."""

    def test_a_path(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLACE", str(folder))
        recipe = load(folder, edited("path: pairs.jsonl", "path: ${PLACE}/pairs.jsonl"))
        assert recipe.data is not None
        assert recipe.data.seeds[0].identity() == load(folder, RECIPE).data.seeds[0].identity()  # type: ignore[union-attr]
        assert '"${PLACE}/pairs.jsonl"' in recorded(recipe)
        assert str(folder) not in recorded(recipe)

    def test_a_path_is_named_as_written_in_errors(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLACE", HUSH)
        message = refused(folder, edited("path: pairs.jsonl", "path: ${PLACE}/x.jsonl"))
        assert "${PLACE}/x.jsonl" in message
        assert HUSH not in message

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("policy: {model: smollm2-135m-instruct,", "policy: {model: '${PLACE}/m',"),
            ("reward: {name: trained, base: smollm2-135m-instruct}", "reward: {name: trained, base: '${PLACE}/m'}"),
            (JUDGE, "{name: local, model: '${PLACE}/m'}"),
        ],
    )
    def test_a_model_is_a_folder(self, folder: Path, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLACE", HUSH)  # as a hub id, it would be sent to the hub
        message = refused(folder, edited(old, new))
        assert "${PLACE}/m" in message
        assert HUSH not in message

    @pytest.mark.parametrize(
        ("written", "value", "address"),
        [
            ("${PLACE}", "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
            ("${PLACE}/v1/", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("${PLACE}:8000/v1", "http://10.0.0.9", "http://10.0.0.9:8000/v1"),
            ("http://${PLACE}:8000/v1", "node7", "http://node7:8000/v1"),
            ("http://127.0.0.1:${PLACE}/v1", "8000", "http://127.0.0.1:8000/v1"),
            ("http://localhost:8000/${PLACE}/v1", "a", "http://localhost:8000/a/v1"),
        ],
    )
    def test_an_address(
        self, folder: Path, written: str, value: str, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PLACE", value)
        recipe = load(folder, with_address(written))
        judge = judge_of(recipe)
        assert judge._address() == address
        assert judge.identity() == {"name": "openai", "model": "m"}  # who a judge is, is not its address
        assert written in recorded(recipe)
        assert address not in recorded(recipe) + json.dumps(judge.identity())
        assert pickle.loads(pickle.dumps(judge)).identity() == judge.identity()  # on a worker of a cluster
        monkeypatch.setenv("PLACE", value[:-1] + ("1" if value[-1] != "1" else "2"))
        assert judge_of(load(folder, with_address(written))).identity() == judge.identity()

    @pytest.mark.parametrize(
        "written",
        [
            "https://judge.example/${PLACE}/v1",
            "https://${PLACE}.judge.example/v1",
            "https://x${PLACE}/v1",
            "https://${PLACE}${PLACE}/v1",
            "http://127.0.0.1.judge.example/${PLACE}",
            "https://judge.example:${PLACE}/v1",
            "${PLACE}.judge.example/v1",
            "${PLACE}//judge.example/${PLACE}",
            "HTTPS://judge.example/${PLACE}",
            "http://localhost@judge.example/${PLACE}",
            "http://${PLACE}\\\\@judge.example/",
        ],
    )
    @pytest.mark.parametrize("value", [HUSH, "https:"])
    def test_a_strangers_host_gets_no_value(
        self, folder: Path, written: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PLACE", value)
        message = refused(folder, with_address(written))
        assert message.startswith("recipes/x.yaml:26: evaluation.judge.base_url: ")
        assert HUSH not in message


class TestElsewhere:
    """Fields that are neither paths nor addresses."""

    @pytest.mark.parametrize(
        ("old", "new", "field"),
        [
            ("name: x\n", "name: ${PLACE}\n", "name"),
            ("n: 4", "n: '${PLACE}'", "data.responses.n"),
            ("dtype: float32", "revision: '${PLACE}'", "policy.revision"),
            ("dtype: float32", "dtype: '${PLACE}'", "policy.dtype"),
            ("{epochs: 2}", "{epochs: '${PLACE}'}", "methods.1.training.epochs"),
            ("{epochs: 2}", "{epochs: 2, lora: {r: '${PLACE}'}}", "methods.1.training.lora.r"),
            (JUDGE, "{name: openai, model: '${PLACE}'}", "evaluation.judge.model"),
            (JUDGE, "{name: openai, model: m, api_key_env: '${PLACE}'}", "evaluation.judge.api_key_env"),
            (JUDGE, "{name: '${PLACE}', model: m}", "evaluation.judge.name"),
            (JUDGE, "{name: openai, model: m, extra_body: {user: '${PLACE}'}}", "evaluation.judge.extra_body.user"),
            ("id: dpo", "id: '${PLACE}'", "methods.0.id"),
            ("count: 8}", "count: 8, languages: ['${PLACE}']}", "data.prompts.languages.0"),
        ],
    )
    def test_the_line_says_how_to_keep_the_text(
        self, folder: Path, old: str, new: str, field: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PLACE", HUSH)
        message = refused(folder, edited(old, new))
        assert f": {field}: ${{PLACE}} is filled in only in paths and addresses; " in message
        assert "$${PLACE} to keep the text" in message
        assert HUSH not in message

    def test_a_double_dollar_is_a_dollar(self, folder: Path) -> None:
        policy = load(folder, edited("dtype: float32", "revision: '$${A}'")).policy
        assert policy
        assert policy.revision == "${A}"

    def test_a_replaced_value_need_not_be_valid(self, folder: Path) -> None:
        text = edited("{epochs: 2}", "{epoch: '${NO_SUCH}'}")
        assert load(folder, text, "methods.1.training={}").methods[1].training == {}

    def test_edits_and_sweeps_too(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLACE", str(folder))
        assert refused(folder, RECIPE, "policy.revision=${PLACE}").startswith("--set policy.revision=${PLACE}: ")
        text = RECIPE + "sweep: {grid: {policy.revision: ['${PLACE}', main]}}\n"
        assert "${PLACE} is filled in only in paths" in refused(folder, text)
        text = (
            RECIPE + "sweep: {grid: {data.seeds.0.path: {a: '${PLACE}/pairs.jsonl', b: pairs.jsonl}, seed: [0, 1]}}\n"
        )
        (folder / "x.yaml").write_text(text)
        study = load_study(Path("recipes/x.yaml"))
        assert len(study.cells) == 4
        texts = [recorded(cell.recipe) for cell in study.cells]
        assert all("${PLACE}/pairs.jsonl" in text for text in texts[:2])
        assert all(str(folder) not in text for text in texts)


class TestSecrets:
    """Variables that look like secrets, by their names or by what they hold."""

    NAMES = (
        "HF_TOKEN OPENAI_API_KEY aws_secret_access_key MyPassword DB_PASS PGPASSWORD MYSQL_PWD GITHUB_PAT API_TOKENS "
        "GOOGLE_APPLICATION_CREDENTIALS NPM_AUTH OAUTH2 Authorization SESSION_COOKIE SENTRY_DSN BEARER_X MY_CREDS jwt"
    )

    @pytest.mark.parametrize("name", NAMES.split())
    def test_a_name(self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, HUSH)
        for text in (
            edited("path: pairs.jsonl", f"path: ${{{name}}}/x"),
            with_address(f"http://127.0.0.1/${{{name}}}"),
        ):
            message = refused(folder, text)
            assert f"${{{name}}} is never filled in, because its name looks like a secret's" in message
            assert HUSH not in message

    @pytest.mark.parametrize("value", [HUSH, f"a/{HUSH}/b", "postgres://me:pw@host/db"])
    def test_a_value(self, folder: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", HUSH)
        monkeypatch.setenv("PLACE", value)
        message = refused(folder, edited("path: pairs.jsonl", "path: ${PLACE}/x"))
        assert "${PLACE} is not filled in, because its value holds a key or a password" in message
        assert value not in message

    @pytest.mark.parametrize(
        "name", ["DATA", "HOME", "TOKENIZER_DIR", "PWD", "OLDPWD", "AUTHORS", "COMPASS", "PASSAGES", "SCRATCH"]
    )
    def test_ordinary_names(self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, str(folder))
        load(folder, edited("path: pairs.jsonl", f"path: ${{{name}}}/pairs.jsonl"))

    def test_a_template_file_names_variables_in_vain(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLACE", HUSH)
        template = "style: text\ntask: '${PLACE}'\nexample: '{prompt} ${PLACE}'\nstop: ['${PLACE}']\n"
        (folder / "t.yaml").write_text(template)
        (folder / "x.yaml").write_text(edited("count: 8}", "count: 8, template: t.yaml}"))
        try:
            shown = recorded(load_recipe(Path("recipes/x.yaml"), check=False))
        except Exception as error:
            shown = str(error)
        assert HUSH not in shown
