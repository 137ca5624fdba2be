"""Edits (`--set a.b=c`), and secrets, which no message shows."""

from pathlib import Path

import pytest

from harness.errors import RecipeError
from tests.a_recipe import RECIPE, edited, load, refused


class TestSet:
    """`--set a.b=c`"""

    @pytest.mark.parametrize(
        "edit", ["methods.1.loss.beta=0.2", "methods[1].loss.beta=0.2", "methods[multi-dpo].loss.beta=0.2"]
    )
    def test_an_item_by_place_or_id(self, folder: Path, edit: str) -> None:
        recipe = load(folder, RECIPE, edit)
        assert [m.loss.model_dump()["beta"] for m in recipe.methods] == [0.1, 0.2]

    def test_values_are_yaml_and_later_edits_win(self, folder: Path) -> None:
        recipe = load(
            folder,
            RECIPE,
            "runtime.micro_batch_size=4",  # a section that the file doesn't have
            "training={epochs: 3, lora: false}",
            "training.epochs=5e-1",
            "evaluation.benchmarks[mt_bench].limit=2",
            "name=a=b",
            "name=y",
        )
        assert recipe.runtime.micro_batch_size == 4
        assert (recipe.training.epochs, recipe.training.lora, recipe.name) == (0.5, None, "y")
        assert recipe.evaluation is not None
        assert recipe.evaluation.benchmarks[1].model_dump()["limit"] == 2

    def test_an_alias_is_edited_at_one_of_its_places(self, folder: Path) -> None:
        text = edited("{epochs: 2}", "&t {epochs: 2}").replace("beta: 0.1}}", "beta: 0.1}, training: *t}", 1)
        text = text.replace("  - {id: dpo,", "  - {id: dpo,")
        with pytest.raises(RecipeError, match="undefined alias"):  # the anchor comes later in the file
            load(folder, text)
        text = RECIPE.replace("beta: 0.1}}", "beta: 0.1}, training: &t {epochs: 3}}").replace("{epochs: 2}", "*t")
        recipe = load(folder, text, "methods.1.training.epochs=7")
        assert [recipe.training_of(m).epochs for m in recipe.methods] == [3, 7]

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            ("training.epoch=2", "--set training.epoch=2: training.epoch: unknown field; did you mean 'epochs'? "),
            (
                "methods[dpo].loss.bta=2",
                "--set methods[dpo].loss.bta=2: methods.0.loss.bta: unknown field; did you mean",
            ),
            ("mehods.0.loss=2", "--set mehods.0.loss=2: mehods: unknown field; did you mean 'methods'? "),
            ("data.responses.n=1", "--set data.responses.n=1: data.responses.n: expected at least 2, got 1"),
            (
                "methods[dp].id=x",
                "--set methods[dp].id=x: methods has no item 'dp'; expected a number below 2, or did you mean",
            ),
            ("methods.2.id=x", "--set methods.2.id=x: methods has no item '2'; expected a number below 2, or one of: "),
            ("name.x=1", "--set name.x=1: name is 'x', which has no fields to set"),
            ("training={epochs: 1, epochs: 2}", "--set training={epochs: 1, epochs: 2}: training.epochs: given twice"),
            ("training=[", "--set training=[: not valid YAML: "),
            ("training", "--set training: expected FIELD=VALUE, like training.epochs=2"),
            ("=3", "--set =3: expected FIELD=VALUE, like training.epochs=2"),
            ("a..b=3", "--set a..b=3: expected FIELD=VALUE, like training.epochs=2"),
            ("policy.model=${NO_SUCH}", "--set policy.model=${NO_SUCH}: policy.model: environment variable 'NO_SUCH'"),
            ("policy.model=nope", "--set policy.model=nope: policy.model: unknown model 'nope': "),
        ],
    )
    def test_mistakes_name_the_edit(self, folder: Path, edit: str, message: str) -> None:
        assert refused(folder, RECIPE, edit).startswith(message)

    def test_mistakes_of_the_file_come_first(self, folder: Path) -> None:
        message = refused(folder, edited("{r: 8}", "{r: 0}"), "data.responses.n=1")
        assert message == "recipes/x.yaml:24: training.lora.r: expected at least 1, got 0 (and 1 more)"

    def test_a_replaced_value_need_not_be_valid(self, folder: Path) -> None:
        text = edited("{epochs: 2}", "{epoch: '${NO_SUCH}'}")
        assert load(folder, text, "methods.1.training={}").methods[1].training == {}


class TestSecrets:
    """Values of fields that may hold a key or token are never shown, and values are short."""

    JUDGE = "{name: local, model: smollm2-135m-instruct}"

    @pytest.mark.parametrize("field", ["api_key_env: sk-1234", "api_key: sk-1234", "auth_token: sk-1234"])
    def test_in_the_file_and_in_an_edit(self, folder: Path, field: str) -> None:
        judge = f"{{name: openai, model: gpt-4o, {field}}}"
        for message in (
            refused(folder, edited(self.JUDGE, judge)),
            refused(folder, RECIPE, f"evaluation.judge={judge}"),
        ):
            assert field.split(":")[0] in message
            assert "sk-1234" not in message
        key, value = field.split(": ")
        text = edited(self.JUDGE, "{name: openai, model: gpt-4o}")
        assert "sk-1234" not in refused(folder, text, f"evaluation.judge.{key}={value}")

    def test_values_are_shortened(self, folder: Path) -> None:
        message = refused(folder, edited("n: 4", f"n: {'x' * 5000}"))
        assert len(message) < 200
        assert len(refused(folder, edited("name: mdpo_linear", f"name: {'x' * 5000}"))) < 400
        assert len(refused(folder, edited("seed: 0", f"{'x' * 5000}: 0"))) < 400
        assert len(refused(folder, RECIPE, f"data.responses.n={'x' * 5000}")) < 300

    def test_max_new_tokens_is_none(self, folder: Path) -> None:
        assert "got 'lots'" in refused(folder, edited("    n: 4", "    max_new_tokens: lots"))
