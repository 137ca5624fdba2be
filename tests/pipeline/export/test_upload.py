"""`harness export --model --push-to-hub`, by the real huggingface_hub against a fake hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

import harness
from harness.errors import DataError
from tests.fake_upload_hub import COMMIT, UploadHub, upload_hub
from tests.pipeline.export import runs

TOKEN = "hf_notARealOne123"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    folder = tmp_path_factory.mktemp("upload")
    made = runs.recipe(folder, "float32", ["lora"])
    del made["evaluation"]
    return runs.run(folder, made)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UploadHub]:
    with upload_hub(TOKEN) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def test_what_is_on_the_hub_is_the_model_alone(
    run: harness.Run, hub: UploadHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the adapter, by the stored login; then the whole model, beside which no adapter may stay."""
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(TOKEN)
    done = harness.export_model(run, "lora", tmp_path / "out", base="me/base", push_to_hub="me/mine", private=True)
    assert done.url == f"{hub.url}/me/mine/commit/{COMMIT}"
    assert (hub.private, hub.kinds) == ({"me/mine": True}, {"me/mine": "model"})
    assert hub.files["me/mine"] == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= hub.files["me/mine"].keys()
    card = hub.files["me/mine"]["README.md"].decode()
    assert "vllm serve me/base" in card
    assert "--lora-modules lora=me/mine" in card
    assert done.serve.endswith("--lora-modules lora=me/mine")
    hub.files["me/mine"]["notes.md"] = b"mine"
    whole = harness.export_model(run, "lora", merge=True, push_to_hub="me/mine")
    assert (whole.folder, whole.serve) == (None, "vllm serve me/mine")
    assert "adapter_config.json" not in hub.files["me/mine"]
    assert {"model.safetensors", "config.json", "notes.md"} <= hub.files["me/mine"].keys()
    fields = ModelCard(hub.files["me/mine"]["README.md"].decode()).data.to_dict()  # type: ignore[no-untyped-call]
    assert fields["library_name"] == "transformers"
    assert len(hub.commits["me/mine"]) == 2


def test_what_is_to_be_private_never_goes_where_all_can_read_it(run: harness.Run, hub: UploadHub) -> None:
    hub.private["me/old"], hub.kinds["me/old"] = False, "model"
    with pytest.raises(DataError, match="already exists and is public"):
        harness.export_model(run, "lora", merge=True, push_to_hub="me/old", private=True)
    assert hub.commits == {}


@pytest.mark.parametrize(
    ("token", "repo", "said"),
    [
        ("", "me/mine", "there is no stored login; log in with hf auth login"),
        ("hf_other456", "me/mine", "hub model 'me/mine': not uploaded .*may not write"),
        (TOKEN, "mine", "expected OWNER/NAME, got 'mine'"),
    ],
)
def test_an_upload_that_fails_is_one_line(
    token: str, repo: str, said: str, run: harness.Run, hub: UploadHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DataError, match=said) as caught:
        harness.export_model(run, "lora", merge=True, push_to_hub=repo)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert hub.commits == {}
