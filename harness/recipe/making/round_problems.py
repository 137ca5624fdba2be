"""What is wrong with a recipe's `rounds`."""

from collections.abc import Iterator, Sequence

from harness.errors import quoted
from harness.recipe.data import ResponseGeneration
from harness.recipe.making.rounds import Rounds, policys_sources, round_row
from harness.recipe.policy import Policy
from harness.recipe.reading.plain_yaml import FieldPath
from harness.recipe.reading.problems import Problem
from harness.recipe.recipe import Method, Recipe
from harness.servers.adapting.continuing import Continuing

ROUNDS: FieldPath = ("rounds",)


def round_problems(recipe: Recipe, trained: Sequence[str]) -> list[Problem]:
    """Problems of rounds with what else is in the recipe. `trained`: the ids of the rows of its first round."""
    rounds, policy = recipe.rounds, recipe.policy
    if rounds is None:
        return []
    if not recipe.methods or policy is None:
        return [Problem(ROUNDS, "each round trains, and there are no `methods`; give them, or remove rounds")]
    responses = recipe.data.responses if recipe.data else None
    if responses is None or recipe.data is None or recipe.data.reward is None:
        message = "each round samples responses and scores them: give data.responses and data.reward, or remove rounds"
        return [Problem(ROUNDS, message)]
    return [
        *_wrong_sources(responses, policy),
        *_too_few_prompts(rounds, recipe),
        *(problem for i, method in enumerate(recipe.methods) for problem in _wrong_method(recipe, rounds, i, method)),
        *_same_ids(recipe, trained),
        *_first_rounds(recipe, trained),
    ]


def _wrong_sources(responses: ResponseGeneration, policy: Policy) -> Iterator[Problem]:
    """Responses of which none are the policy's."""
    if policys_sources(responses, policy):
        return
    field: FieldPath = ("data", "responses", "generator" if responses.generator else "sources")
    yield Problem(
        field,
        "in later rounds the trained policy takes the place of the untrained one, which writes none of the responses; "
        f"expected {{name: hf, model: {policy.model}}}, or {{name: openai, engine: NAME}} of a vLLM with that model",
    )


def _too_few_prompts(rounds: Rounds, recipe: Recipe) -> Iterator[Problem]:
    data = recipe.data
    if rounds.prompts == "same" or data is None or data.responses is None:
        return
    field: FieldPath = ("rounds", "prompts")
    if isinstance(data.responses.seed_prompts, bool):
        message = "the first round has all prompts; expected a number in data.responses.seed_prompts, or prompts: same"
        yield Problem(field, message)
    elif data.new_prompts is not None and data.generated_per_seed is None:
        message = "the first round has all new prompts; expected data.generated_per_seed, or prompts: same"
        yield Problem(field, message)


def _wrong_method(recipe: Recipe, rounds: Rounds, i: int, method: Method) -> Iterator[Problem]:
    """A method whose training can't go on."""
    training, data, policy = recipe.training_of(method), recipe.data, recipe.policy

    def at(field: str) -> FieldPath:
        return ("methods", i, "training", field) if field in method.training else ("training", field)

    if training.merge and training.lora:
        yield Problem(at("merge"), "rounds go on with adapters, which are then gone; merge at the end: harness export")
    if training.reference is not None and rounds.reference == "previous":
        message = "an engine has the untrained policy, and rounds.reference is the previous one; remove one of them"
        yield Problem(at("reference"), message)
    sources = policys_sources(data.responses, policy) if data and data.responses and policy else []
    if training.lora and training.lora.bits and any(isinstance(source, Continuing) for source in sources):
        yield Problem(at("lora"), "an engine doesn't have the quantised base: sample in process, by hf")


def _same_ids(recipe: Recipe, trained: Sequence[str]) -> Iterator[Problem]:
    later = {round_row(row, n): row for row in trained for n in range(2, recipe.round_count + 1)}
    for kind, ids in (("methods", [m.id for m in recipe.methods]), ("systems", [s.id for s in recipe.systems])):
        for i, one in enumerate(ids):
            if row := later.get(one):
                yield Problem((kind, i, "id"), f"'{one}' is the row of a round of '{row}'; rename one of them")


def _first_rounds(recipe: Recipe, trained: Sequence[str]) -> Iterator[Problem]:
    """Gates on rows of the first round by a name that may be meant for the method."""
    for i, gate in enumerate(recipe.gates):
        if gate.row in trained:
            last = round_row(gate.row, recipe.round_count)
            message = f"{quoted(gate.row)} is the first of {recipe.round_count} rounds; expected {quoted(last)}"
            yield Problem(("gates", i, "row"), message)
