"""What a server's refusal is about, in the words of many servers, and how long one asks to wait."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.servers.adapting.pauses import pause
from harness.servers.adapting.refusals import Refusal, about_length, bound_in, least_in, refusal_of
from harness.servers.adapting.terms import Facts, Rules, applied, learnt

SENT = {
    "model": "gpt-5",
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
    "temperature": 0.0,
    "max_tokens": 1,
    "logprobs": True,
    "top_logprobs": 20,
    "top_p": 1.0,
    "seed": 3,
    "stop": ["x"],
}


def openai(message: str, param: str | None = None) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": param, "code": "unsupported_parameter"}


def pydantic(place: list[Any], message: str, **ctx: Any) -> dict[str, Any]:
    return {"detail": [{"type": "t", "loc": ["body", *place], "msg": message, "input": "temperature", "ctx": ctx}]}


ABOUT: list[tuple[Any, str | None]] = [
    (openai("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens"), "max_tokens"),
    (openai("Unsupported parameter: max_tokens. Use max_completion_tokens instead."), "max_tokens"),
    (openai("Unsupported value: 'temperature' does not support 0.0 with this model.", "temperature"), "temperature"),
    (openai("'messages[0].role' does not support 'system' with this model.", "messages[0].role"), "system"),
    (openai("Invalid 'messages[1].content': string too long.", "messages[1].content"), None),
    (openai("The model `seed-1` does not exist", "model"), None),
    (pydantic(["max_tokens"], "Extra inputs are not permitted"), "max_tokens"),
    (pydantic(["seed"], "extra fields not permitted"), "seed"),
    (pydantic(["top_logprobs"], "Input should be less than or equal to 5", le=5), "top_logprobs"),
    (pydantic(["messages", 0, "content"], "Field required"), None),
    ({"message": "openai does not support parameters: ['logprobs', 'top_logprobs'], for model=o3"}, "logprobs"),
    ({"message": "`temperature` and `top_p` cannot both be specified for this model"}, "top_p"),
    ({"message": "`temperature` is deprecated for this model."}, "temperature"),
    ({"message": "temperature: Input should be 1"}, "temperature"),
    ({"message": "System role not supported"}, "system"),
    ({"message": "Conversation roles must alternate user/assistant/user/assistant/..."}, "system"),
    ({"message": "Developer instruction is not enabled for models/gemma-3-27b-it"}, "system"),
    ({"message": "This model only support stream mode, please enable the stream parameter"}, "stream"),
    ({"message": "stream must be set to true"}, "stream"),
    ({"message": "please set stream=true"}, "stream"),
    ({"message": "model seed-1 is not available"}, None),
    ({"message": "Non-streaming requests are not supported"}, "stream"),
    ({"message": "Requested sample logprobs of 20, which is greater than max allowed: 5"}, "logprobs"),
    ({"message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}, "seed"),
    ({"message": "bad", "details": [{"fieldViolations": [{"field": "generation_config.topP"}]}]}, "top_p"),
    ({"message": '{"error": {"message": "unsupported", "param": "stop"}}'}, "stop"),
    ({"message": "Log probabilities are not available for this model"}, "logprobs"),
    ({"message": "Unsupported: logprobs. Supported parameters: temperature, top_p, max_tokens"}, "logprobs"),
    ({"message": "temperature 参数非法"}, "temperature"),
    ("property 'top_p' is unsupported, did you mean 'stop'?", "top_p"),
    ("Unrecognized request argument supplied: logprobs", "logprobs"),
    ("Upstream error", None),
    ({"error": "`top_n_tokens` must be >= 0 and <= 4. Given: 20"}, "top_logprobs"),
    (
        openai("Invalid 'max_output_tokens': integer below minimum value. Expected >= 16", "max_output_tokens"),
        "max_tokens",
    ),
    ("'max_tokens' is too small: 1 < 20", "max_tokens"),
    ("Der Parameter temperature wird nicht unterstützt", "temperature"),
    ("Only user and assistant roles are supported!", "system"),
    ({"message": "The response was filtered by the content management policy", "param": "prompt"}, None),
]


@pytest.mark.parametrize(("body", "parameter"), ABOUT)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_is_about_a_parameter(status: int, body: Any, parameter: str | None) -> None:
    refusal = refusal_of(status, body, SENT)
    assert (refusal.parameter if refusal else None) == parameter


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_other_errors_are_not_about_parameters(status: int) -> None:
    assert refusal_of(status, openai("'temperature' is not supported", "temperature"), SENT) is None


@pytest.mark.parametrize(
    ("status", "text", "parameter"),
    [
        (403, "You are not allowed to request logprobs from this model", "logprobs"),
        (403, "You are not allowed to sample from this model at this temperature", None),
        (
            500,
            "APIError: Error code: 400 - {'error': {'message': \"'temperature' does not support 0\"}}",
            "temperature",
        ),
        (500, "Jinja Exception: After the optional system message, conversation roles must alternate", "system"),
        (500, "temperature sensor failed", None),
    ],
)
def test_some_servers_refuse_with_another_status(status: int, text: str, parameter: str | None) -> None:
    refusal = refusal_of(status, {"message": text}, SENT)
    assert (refusal.parameter if refusal else None) == parameter


def test_what_was_not_sent_is_not_refused() -> None:
    body = openai("Unsupported parameter: 'max_tokens'", "max_tokens")
    assert refusal_of(400, body, {"max_completion_tokens": 3, "messages": []}) is None


LONG = [
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens. Please reduce max_tokens.",
    "'max_tokens' is too large: 2048. This model's maximum context length is 2048 tokens and your request has 17",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3000 `inputs` tokens and 2048",
    "input length and `max_tokens` exceed context limit: 199000 + 2048 > 200000, decrease input length or `max_tokens`",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "Please reduce the length of the messages or completion.",
]


@pytest.mark.parametrize("text", LONG)
def test_a_prompt_that_is_too_long_is_about_the_prompt(text: str) -> None:
    assert about_length(text)
    assert refusal_of(400, openai(text, "max_tokens"), SENT) is None


@pytest.mark.parametrize("text", ["temperature is no longer supported", "logprobs are not enabled", "a long story"])
def test_other_messages_are_not_about_length(text: str) -> None:
    assert not about_length(text)


@pytest.mark.parametrize(
    ("text", "sent", "bound"),
    [
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", 20, 5),
        ("top_logprobs must be between 0 and 5", 20, 5),
        ("top_logprobs must be in the range [0, 5] for gpt-4", 20, 5),
        ("top_logprobs must be <= 8.", 20, 8),
        ("Input should be less than or equal to 5", 20, 5),
        ("must be less than 6", 20, 5),
        ("supports at most 16384 completion tokens, whereas you provided 20000", 20000, 16384),
        ("logprobs is not supported with gpt-5", 20, None),
        ("max allowed: 0", 20, None),
        ("at most 30", 20, None),
    ],
)
def test_the_largest_value_that_a_message_allows(text: str, sent: int, bound: int | None) -> None:
    assert bound_in(text, sent) == bound


def test_the_smallest_value_that_a_message_allows() -> None:
    assert least_in("integer below minimum value. Expected a value >= 16, but got 1 instead.", 1) == 16
    assert least_in("must be greater than 31", 1) == 32
    assert least_in("max_tokens must be between 16 and 4096", 1) == 16
    assert least_in("'max_tokens' is not supported with gpt-5", 1) is None


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_below_the_least_is_raised_to_it(name: str) -> None:
    facts = learnt(Facts(limit=name), Refusal(name, "Expected a value >= 16, but got 1 instead."), {name: 1}, Rules())
    assert facts is not None
    assert applied(facts, {"max_tokens": 1}, Rules()) == ({name: 16}, ("max_tokens 16 instead of 1",))
    assert applied(facts, {"max_tokens": 300}, Rules()) == ({name: 300}, ())


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, {"message": "Rate limit reached: Limit 3 / min. Please try again in 20s. Visit https://x"}, 20),
        ({}, {"message": "Please try again in 1m2.5s."}, 62.5),
        ({}, {"message": "Please retry after 12 seconds"}, 12),
        ({}, {"message": "try again in 300ms"}, 0.3),
        ({}, {"message": "Try again in 5 minutes"}, 300),
        ({}, {"message": "x", "details": [{"@type": "google.rpc.RetryInfo", "retryDelay": "34.07s"}]}, 34.07),
        ({}, [{"error": {"details": [{"retryDelay": "7s"}]}}], 7),
        ({}, {"message": "try again later. 500 requests were sent"}, 0),
        ({}, {"message": "We retry 3 times"}, 0),
        ({"retry-after": "2"}, {"message": "Please try again in 20s"}, 2),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, None, 360),
        (
            {
                "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-tokens": "3s",
                "x-ratelimit-remaining-tokens": "0",
            },
            None,
            3,
        ),
        ({"x-ratelimit-reset-tokens": "20ms", "x-ratelimit-reset-requests": "1s"}, None, 0.02),
        ({"x-ratelimit-reset": "17"}, None, 17),
        ({"x-ratelimit-reset": str(int(time.time()) + 3_000)}, None, 3_000),
        ({"x-ratelimit-reset": str(int(time.time() * 1000) + 3_000_000)}, None, 3_000),
        ({"anthropic-ratelimit-requests-reset": (NOW + timedelta(seconds=3_000)).isoformat()}, None, 3_000),
        ({"x-ratelimit-reset-requests": "nonsense"}, "text", 0),
    ],
)
def test_a_pause_is_found_in_headers_and_bodies(headers: dict[str, str], body: Any, seconds: float) -> None:
    assert pause(headers, body) == pytest.approx(seconds, abs=600 if seconds == 3_000 else 0)


def test_the_renewal_of_a_limit_says_nothing_of_another_failure() -> None:
    assert pause({"x-ratelimit-reset-requests": "60s"}, None, limited=False) == 0
