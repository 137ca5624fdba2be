import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import DataError
from harness.logprobs.rows import dense_mask, pad, token_row
from harness.models import chat
from harness.models import load as models
from harness.training.ranked.batch import Group, collate, single_rows, tokenize
from tests.training.models import example

X = -100
NONE = {"identical_responses": 0, "dropped_examples": 0}


def test_exact_tensors_of_separate_rows() -> None:
    groups = [
        Group("a", [1, 2, 3], ([11, 12, 13], [21]), (2.0, 1.0), (-3.0, -1.0)),
        Group("b", [4], ([31, 32], [41, 42], [51]), (0.5, 0.5, 0.0), (-4.0, -5.0, -6.0)),
    ]
    batch = collate(groups, pad_id=99, shared=False)
    of_rows = {"input_ids", "attention_mask", "targets", "lengths"}
    of_groups = {"ids", "input_tokens", "mask", "computed", "scores", "ref_logps", "response_lengths"}
    assert set(batch) == of_rows | of_groups
    assert batch["input_ids"].tolist() == [
        [1, 2, 3, 11, 12],
        [1, 2, 3, 99, 99],
        [4, 31, 99, 99, 99],
        [4, 41, 99, 99, 99],
        [4, 99, 99, 99, 99],
    ]
    assert batch["attention_mask"].tolist() == [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
    ]
    assert batch["targets"].tolist() == [
        [X, X, 11, 12, 13],
        [X, X, 21, X, X],
        [31, 32, X, X, X],
        [41, 42, X, X, X],
        [51, X, X, X, X],
    ]
    assert batch["lengths"].tolist() == [3, 1, 2, 2, 1]
    assert batch["ids"] == ["a", "b"]
    assert batch["mask"].tolist() == [[True, True, False], [True, True, True]]
    assert batch["scores"].tolist() == [[2.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    assert batch["ref_logps"].tolist() == [[-3.0, -1.0, 0.0], [-4.0, -5.0, -6.0]]
    assert batch["response_lengths"].tolist() == [[3, 1, 0], [2, 2, 1]]
    assert batch["input_tokens"] == [5 + 3, 2 + 2 + 1]
    assert batch["computed"].tolist() == batch["mask"].tolist()


@pytest.mark.parametrize("shared", [True, False])
def test_responses_that_a_loss_does_not_look_at_are_in_no_row(shared: bool) -> None:
    group = Group("a", [1, 2], ([11, 12], [21], [31]), (2.0, 1.0, 0.0), (-3.0, -1.0, -2.0), (True, False, True))
    batch = collate([group], pad_id=99, shared=shared)
    assert batch["targets"][batch["targets"] != X].tolist() == [11, 12, 31]
    assert batch["lengths"].tolist() == [2, 1]
    assert batch["computed"].tolist() == [[True, False, True]]
    assert batch["mask"].tolist() == [[True, True, True]]
    assert batch["response_lengths"].tolist() == [[2, 1, 1]]


def test_rows_taken_apart_have_no_padding() -> None:
    groups = [Group("a", [1, 2, 3], ([11, 12, 13], [21]), (2.0, 1.0), (-3.0, -1.0))]
    one, two = single_rows(collate(groups, pad_id=99, shared=False))
    assert one["input_ids"].tolist() == [[1, 2, 3, 11, 12]]
    assert two["input_ids"].tolist() == [[1, 2, 3]]
    assert two["targets"].tolist() == [[X, X, 21]]
    assert (one["lengths"].tolist(), two["lengths"].tolist()) == ([3], [1])


def test_exact_tensors_of_shared_rows() -> None:
    groups = [
        Group("a", [1, 2, 3], ([11, 12], [21]), (2.0, 1.0), (-3.0, -1.0)),
        Group("b", [4], ([31, 32], [41]), (2.0, 1.0), (-3.0, -1.0)),
    ]
    batch = collate(groups, pad_id=99, shared=True)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 11, 3], [4, 31, 4, 99, 99]]
    assert batch["targets"].tolist() == [[X, X, 11, 12, 21], [31, 32, 41, X, X]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    assert batch["lengths"].tolist() == [2, 1, 2, 1]
    assert batch["segments"].tolist() == [[0, 0, 1, 1, 2], [1, 1, 2, -1, -1]]
    assert dense_mask(batch["segments"])[:, 0].int().tolist() == [
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]],
        [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]],
    ]


def test_a_row_of_one_response_is_the_plain_sequence() -> None:
    batch = pad([token_row([1, 2, 3], [[11, 12]])], pad_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 11]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1]]


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return models.load_tokenizer(str(tiny_model))


def test_tokens_are_those_of_chat_encode(tokenizer: Any) -> None:
    one = example("x", ("good", 1.0), ("bad one", 0.0))
    (group,), counts = tokenize([one], {"x": [-1.0, -2.0]}, tokenizer, max_prompt_length=64, max_length=128)
    for text, response in zip(("good", "bad one"), group.responses, strict=True):
        encoded = chat.encode(tokenizer, one.messages, text, max_prompt_length=64, max_length=128)
        assert (group.prompt, response) == (encoded.prompt, encoded.response)
        assert response[-1] == tokenizer.eos_token_id
        assert response.count(tokenizer.eos_token_id) == 1
    assert counts == {"responses": 2, "truncated_responses": 0, "unscored_responses": 0, **NONE}


def test_truncation_is_counted(tokenizer: Any) -> None:
    one = example("x", ("a" * 50, 1.0), ("b", 0.0))
    prompt = len(chat.encode_prompt(tokenizer, one.messages))
    (group,), counts = tokenize([one], {"x": [-1.0, -2.0]}, tokenizer, max_prompt_length=prompt, max_length=prompt + 20)
    assert [len(r) for r in group.responses] == [20, 2]
    assert tokenizer.eos_token_id not in group.responses[0]
    assert counts["truncated_responses"] == 1


def test_an_empty_response_is_its_end_token(tokenizer: Any) -> None:
    (group,), _ = tokenize(
        [example("x", ("a", 1.0), ("", 0.0))], {"x": [-1.0, -2.0]}, tokenizer, max_prompt_length=64, max_length=128
    )
    assert group.responses[1] == [tokenizer.eos_token_id]


def test_unscored_responses_are_left_out_and_counted(tokenizer: Any) -> None:
    data = [example("x", ("a", 2.0), ("b", None), ("c", 1.0)), example("y", ("a", 2.0), ("b", None))]
    reference = {"x": [-1.0, -2.0, -3.0], "y": [-4.0, -5.0]}
    groups, counts = tokenize(data, reference, tokenizer, max_prompt_length=64, max_length=128)
    assert [(g.id, g.scores, g.ref_logps) for g in groups] == [("x", (2.0, 1.0), (-1.0, -3.0))]
    assert counts == {"responses": 2, "truncated_responses": 0, "unscored_responses": 2, **NONE, "dropped_examples": 1}


@pytest.mark.parametrize(
    ("scores", "reference", "message"),
    [
        ((1.0, math.nan), [-1.0, -2.0], "example x: a score is nan"),
        ((1.0, 0.0), [-1.0, -math.inf], "example x: a reference log-probability is -inf"),
        ((1.0, 0.0), [-1.0], "example x: 1 reference log-probabilities for 2 responses"),
        ((1.0, 0.0), None, "example x: no reference log-probabilities for 2 responses"),
        ((1.0, None), [-1.0, -2.0], "none of the 1 examples has two scored responses"),
    ],
)
def test_bad_data_is_named(tokenizer: Any, scores: tuple[float, ...], reference: Any, message: str) -> None:
    one = example("x", *zip(("a", "b"), scores, strict=True))
    with pytest.raises(DataError, match=message):
        tokenize([one], {} if reference is None else {"x": reference}, tokenizer, max_prompt_length=64, max_length=128)


def test_scores_and_references_keep_their_response_when_positions_are_not_by_score(tokenizer: Any) -> None:
    one = example("x", ("a", 0.0), ("bb", 5.0), ("ccc", 3.0))
    groups, _ = tokenize([one], {"x": [-1.0, -2.0, -3.0]}, tokenizer, max_prompt_length=64, max_length=128)
    batch = collate(groups, pad_id=0, shared=False)
    torch.testing.assert_close(batch["scores"], torch.tensor([[0.0, 5.0, 3.0]]))
    assert batch["lengths"].tolist() == [2, 3, 4]
    assert batch["ref_logps"].tolist() == [[-1.0, -2.0, -3.0]]


def test_responses_that_became_identical_leave_only_the_best(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    same = "as long as that " * 4
    data = [
        example("pair", (same + "yes", 1.0), (same + "no", 0.0)),
        example("list", (same + "yes", 3.0), ("other", 2.0), (same + "no", 1.0), ("last", 0.0)),
        example("tie", ("one", 1.0), ("one", 1.0), ("two", 0.0)),  # sampled twice: no preference is claimed
    ]
    reference = {e.id: [float(-i) for i in range(len(e.responses))] for e in data}
    prompt = len(chat.encode_prompt(tokenizer, data[0].messages))
    lengths = {"max_prompt_length": prompt, "max_length": prompt + 20}
    groups, counts = tokenize(data, reference, tokenizer, **lengths)
    assert [(g.id, g.scores, g.ref_logps) for g in groups] == [
        ("list", (3.0, 2.0, 0.0), (0.0, -1.0, -3.0)),
        ("tie", (1.0, 1.0, 0.0), (0.0, -1.0, -2.0)),
    ]
    assert (counts["identical_responses"], counts["dropped_examples"], counts["responses"]) == (2, 1, 6)
    assert "2 responses are identical to a better one of their prompt once they are cut" in caplog.text
    with pytest.raises(DataError, match=r"not identical once they are cut: raise training\.max_length \(\d+\)"):
        tokenize(data[:1], reference, tokenizer, **lengths)
    assert tokenize(data[:1], reference, tokenizer, max_prompt_length=prompt, max_length=500)[1] == {
        "responses": 2, "truncated_responses": 0, "unscored_responses": 0, **NONE
    }  # fmt: skip
