"""Other sizes of a recipe: training seeds, prompts, answers to a prompt, verdicts on an answer, and what they cost.

Every design is the recipe with edits that `--set` takes. Costs are linear in seeds, in turns and in their product, so
that the plans of four designs tell those of all.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from harness.benchmark import Benchmark
from harness.errors import RecipeError
from harness.judging.panel import members_of
from harness.pipeline.estimates import Cost, Estimates
from harness.recipe.evaluation import Evaluation
from harness.recipe.recipe import Recipe
from harness.recipe.training import Training
from harness.stages.answers import turn_count
from harness.stats.paired import prompt_of

FEWEST_PROMPTS = 20
"""Fewer are not proposed: intervals that hold are wide there."""
TIMES = (1, 2, 4)
"""Answers to a prompt and verdicts on an answer that are tried."""


class Size(NamedTuple):
    """How large a recipe is. `seeds`: trainings of each method. `prompts`: of one benchmark. `answers`: to each prompt.
    `verdicts`: on each answer."""

    seeds: int
    prompts: int
    answers: int = 1
    verdicts: int = 1


class Sizable:
    """What can be set in a recipe: the training seeds, and the sizes of one of its benchmarks, by its `number`."""

    def __init__(self, recipe: Recipe, evaluation: Evaluation, number: int) -> None:
        self.recipe, self.evaluation, self.number = recipe, evaluation, number
        self.benchmark: Benchmark = evaluation.benchmarks[number]
        self._fields = type(self.benchmark).model_fields
        self._values = self.benchmark.model_dump()

    @cached_property
    def own(self) -> Size:
        """The recipe's own size; seeds are those of the method with the fewest."""
        seeds = min(_seed_count(self.recipe.training_of(method)) for method in self.recipe.methods)
        samples = self._values.get("samples", 1)
        answers = samples if samples > 1 and self._samples_are_answers else 1
        orders = 2 if self._values.get("orders") == "both" else 1
        return Size(seeds, _prompts(self.benchmark), answers, orders * self._own_replies)

    @cached_property
    def prompts(self) -> list[int]:
        """The numbers of prompts that can be set, the largest first: all that there are, three quarters, half, and so
        on."""
        found = {self.own.prompts}
        if "limit" in self._fields:
            left = _prompts(self.benchmark.model_copy(update={"limit": None}))
            found.add(left)
            while left >= FEWEST_PROMPTS:
                found |= {left, 3 * left // 4}
                left //= 2
        return sorted(found, reverse=True)

    @cached_property
    def answers(self) -> list[int]:
        """The numbers of answers to a prompt that can be set."""
        by_chance = self._samples_are_answers and self.evaluation.answers.temperature != 0
        return sorted({self.own.answers, *(TIMES if by_chance else ())})

    @cached_property
    def verdicts(self) -> dict[int, list[str]]:
        """The numbers of verdicts on an answer that can be set, with the edits: both orders of a pair before several
        replies of a judge that varies."""
        judges = members_of(self.evaluation.judge_of(self.benchmark)) if self.benchmark.judged else ()
        varies = any(member.resamples for member in judges)
        counts_replies = "samples" in self._fields and not self._samples_are_answers
        replies = TIMES if varies and counts_replies else (self._own_replies,)
        orders = {"both": 2, "seeded": 1} if "orders" in self._fields else {"": 1}
        found: dict[int, list[str]] = {self.own.verdicts: []}
        for order, shown in orders.items():
            for count in replies:
                wanted = ({"orders": order} if order else {}) | ({"samples": count} if counts_replies else {})
                edits = [self._edit(field, value) for field, value in wanted.items() if value != self._values[field]]
                found.setdefault(count * shown, edits)
        return dict(sorted(found.items()))

    def inverse(self, answers: int) -> float:
        """The mean over the prompts of one over their number of answers: some prompts are answered without chance."""
        if answers == 1 or not self._samples_are_answers:
            return 1.0
        counts: dict[str, int] = {}
        for question in self.benchmark.model_copy(update={"samples": answers}).load_questions():
            counts[prompt_of(question.id)] = counts.get(prompt_of(question.id), 0) + 1
        return fmean(1 / count for count in counts.values())

    def turns(self, size: Size) -> int:
        """How often a row of this size answers: the turns of all prompts and answers."""
        changed = {"limit": size.prompts} if size.prompts != self.own.prompts else {}
        changed |= {"samples": size.answers} if self._samples_are_answers else {}
        return turn_count(self.benchmark.model_copy(update=changed))

    def edits(self, size: Size) -> list[str]:
        """The edits that give the recipe this size; none for what is so already."""
        seeds, renamed = self._seed_edits(size.seeds)
        limit = [] if size.prompts == self.own.prompts else [self._edit("limit", size.prompts)]
        samples = [] if size.answers == self.own.answers else [self._edit("samples", size.answers)]
        return [*seeds, *limit, *samples, *self.verdicts[size.verdicts], *renamed]

    @cached_property
    def _samples_are_answers(self) -> bool:
        """Whether the benchmark's field `samples` counts answers, which are questions of their own, not verdicts."""
        if "samples" not in self._fields:
            return False
        one, two = (len(self.benchmark.model_copy(update={"samples": n}).load_questions()) for n in (1, 2))
        return two > one

    @property
    def _own_replies(self) -> int:
        samples: int = self._values.get("samples", 1)
        return 1 if samples > 1 and self._samples_are_answers else samples

    def _edit(self, field: str, value: object) -> str:
        return f"evaluation.benchmarks.{self.number}.{field}={value}"

    def _seed_edits(self, count: int) -> tuple[list[str], list[str]]:
        """(edits of the training seeds, edits of what names a row that is then called otherwise). Seeds that the recipe
        has come first, so that what is trained already is not trained again."""
        recipe = self.recipe
        fields = {"training.seeds": recipe.training}
        for i, method in enumerate(recipe.methods):
            if "seeds" in method.training:
                fields[f"methods.{i}.training.seeds"] = recipe.training_of(method)
        changed = [field for field, training in fields.items() if _seed_count(training) != count]
        if not changed:
            return [], []
        common = recipe.training.seeds or (recipe.seed,)
        chosen = list(dict.fromkeys([*common, *range(count + len(common))]))[:count]
        # All of them, so that the methods' seeds are the same ones and are paired.
        return [f"{field}={chosen}" for field in fields], self._renamed(chosen)

    def _renamed(self, chosen: Sequence[int]) -> list[str]:
        """Edits of gates and references that name a row without a seed, or with a seed that is gone."""
        names: dict[str | None, str] = {}
        for method in self.recipe.methods:
            seeds = self.recipe.training_of(method).seeds
            old = [method.id] if seeds is None else [f"{method.id}.seed-{s}" for s in seeds if s not in chosen]
            names |= dict.fromkeys(old, f"{method.id}.seed-{chosen[0]}")
        fields: dict[str, str | None] = {}
        for i, benchmark in enumerate(self.evaluation.benchmarks):
            fields[f"evaluation.benchmarks.{i}.reference"] = benchmark.needs_row
        for i, gate in enumerate(self.recipe.gates):
            fields[f"gates.{i}.row"] = gate.row
            fields[f"gates.{i}.baseline_row"] = gate.baseline_row if gate.baseline is None else None
        return [f"{field}={names[row]}" for field, row in fields.items() if row in names]


def _prompts(benchmark: Benchmark) -> int:
    return len({prompt_of(question.id) for question in benchmark.load_questions()})


def _seed_count(training: Training) -> int:
    return len(training.seeds or (0,))


class Costs:
    """The costs of a recipe's designs, each a whole run from an empty store. `estimates`: of the recipe with edits.
    Raises RecipeError where the recipe can't take the edits."""

    def __init__(self, sizable: Sizable, estimates: Callable[[Sequence[str]], Estimates]) -> None:
        self._sizable = sizable
        few, many = (
            sizable.own._replace(seeds=2, prompts=sizable.prompts[prompts], answers=sizable.answers[answers])
            for prompts, answers in ((-1, 0), (0, -1))
        )
        self._turns = sizable.turns(few), sizable.turns(many)
        corners = [size._replace(seeds=seeds) for size in (few, many) for seeds in (2, 3)]
        by_size = {size: self._split(size, estimates(sizable.edits(size))) for size in dict.fromkeys(corners)}
        self._rest = [by_size[size][0] for size in corners]
        self._judged = [by_size[size][1] for size in corners]

    def _split(self, size: Size, estimates: Estimates) -> tuple[Cost, Cost]:
        """(the cost of all but the verdicts of the benchmark, the cost of those)."""
        number, name = self._sizable.number, self._sizable.benchmark.name
        recipe = estimates.plan.study.cells[0].recipe
        if recipe.evaluation is None or Sizable(recipe, recipe.evaluation, number).own[:2] != size[:2]:
            raise RecipeError("the sweep of this recipe sets what --detect would: take the seeds and limits out of it")
        rows = estimates.plan.plans[0].rows
        judged = estimates.cost({row.verdicts[name].key for row in rows if name in row.verdicts})
        return _weighed([estimates.together, judged], [1, -1]), judged

    def of(self, size: Size) -> Cost:
        """The cost of a run of this size."""
        seeds, (few, many) = size.seeds - 2, self._turns
        turns, times = self._sizable.turns(size), size.verdicts / self._sizable.own.verdicts
        if few == many:  # nothing but the seeds and verdicts can be set
            return _at(self._rest, seeds, 0).plus(_weighed([_at(self._judged, seeds, 0)], [times]))
        rest = _at(self._rest, seeds, (turns - few) / (many - few))
        return rest.plus(_at(self._judged, seeds, (turns * times - few) / (many - few)))


def _at(corners: Sequence[Cost], seeds: float, turns: float) -> Cost:
    """Bilinear in seeds and turns, from the costs at (0, 0), (1, 0), (0, 1) and (1, 1)."""
    weights = [(1 - seeds) * (1 - turns), seeds * (1 - turns), (1 - seeds) * turns, seeds * turns]
    return _weighed(corners, weights)


def _weighed(costs: Sequence[Cost], weights: Sequence[float]) -> Cost:
    """The weighted sum, field by field; None where a part is unknown."""

    def summed(amounts: Sequence[float | None]) -> float | None:
        known = [w * x for w, x in zip(weights, amounts, strict=True) if x is not None]
        return sum(known) if len(known) == len(amounts) else None

    seconds, generated, trained, scored, calls, dollars, at_most = map(summed, zip(*costs, strict=True))
    tokens = [round(count or 0) for count in (generated, trained, scored, calls)]
    return Cost(seconds or 0.0, tokens[0], tokens[1], tokens[2], tokens[3], dollars, at_most)
