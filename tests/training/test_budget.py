import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError
from harness.training.budget import Budget, Epoch, budget_used, steps_for

epochs = st.builds(Epoch, st.integers(1, 40), st.integers(40, 5000), st.integers(1, 12))


def tokens_after(steps: int, epoch: Epoch) -> float:
    return epoch.prompts_after(steps) * epoch.tokens / epoch.prompts


def test_prompts_of_passes_with_a_short_last_step() -> None:
    epoch = Epoch(prompts=9, tokens=900, batch_size=4)
    assert [epoch.prompts_after(steps) for steps in range(8)] == [0, 4, 8, 9, 13, 17, 18, 22]


@given(epochs, st.integers(1, 60))
def test_its_own_use_is_its_own_steps(epoch: Epoch, steps: int) -> None:
    assert steps_for(Budget("steps", steps), epoch) == steps
    assert steps_for(Budget("prompts", epoch.prompts_after(steps)), epoch) == steps


@given(epochs, st.integers(1, 200))
def test_nearest_to_the_prompts(epoch: Epoch, amount: int) -> None:
    found = steps_for(Budget("prompts", amount), epoch)
    missed = [abs(epoch.prompts_after(steps) - amount) for steps in range(1, 250)]
    assert missed[found - 1] == min(missed)


@given(epochs, st.integers(1, 20_000))
def test_nearest_to_the_tokens(epoch: Epoch, amount: int) -> None:
    found = steps_for(Budget("tokens", amount), epoch)
    assert found >= 1
    missed = abs(tokens_after(found, epoch) - amount)
    for other in (found - 1, found + 1):
        assert other < 1 or missed <= abs(tokens_after(other, epoch) - amount) + 1e-6


def test_tokens_of_whole_passes_are_exact() -> None:
    epoch = Epoch(prompts=10, tokens=731, batch_size=4)
    assert [steps_for(Budget("tokens", passes * 731), epoch) for passes in (1, 2, 5)] == [3, 6, 15]


def test_at_least_one_step() -> None:
    assert steps_for(Budget("tokens", 1), Epoch(10, 5000, 10)) == 1
    assert steps_for(Budget("prompts", 1), Epoch(10, 5000, 10)) == 1


def test_what_a_report_says_was_used() -> None:
    report = {"steps": 4, "prompts_seen": 13, "forward_tokens": 700}
    assert [budget_used(report, unit, "train/a").amount for unit in ("steps", "prompts", "tokens")] == [4, 13, 700]
    with pytest.raises(DataError, match=r"^train/a: expected 'forward_tokens' in its report, .* match steps instead"):
        budget_used({"steps": 4}, "tokens", "train/a")
