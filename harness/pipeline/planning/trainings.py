"""The trainings of a recipe, and the rows that they give."""

from collections.abc import Mapping
from dataclasses import replace

from harness.engine.stage import Stage
from harness.pipeline.planning.points import points_of
from harness.pipeline.planning.rounds import RoundData, Trained, own_examples
from harness.pipeline.planning.row import PlannedRow, Round
from harness.recipe.arms import Arm, arms_of, matched_arm, point_row
from harness.recipe.evaluation import Checkpoints
from harness.recipe.making.rounds import round_row
from harness.recipe.recipe import BASE, SFT, Recipe
from harness.recipe.training import Point, Training
from harness.stages.heldout import References, heldout_stage, references
from harness.stages.reference import reference_stage
from harness.stages.sft import sft_stage
from harness.stages.train import Sources, policy_stage
from harness.training.checkpoint import RowModel, deployed_adapter
from harness.training.setup import TrainingSetup

Matches = Mapping[str, Arm | None]
"""The training whose budget each one gets, by its id."""


class Trainings:
    """Plans the trainings of a recipe. `shared`: the stages that several rows may share, by name. Equal settings give
    equal stages with one key."""

    def __init__(
        self,
        setup: TrainingSetup,
        ranked: Stage,
        selected: Stage | None = None,
        checkpoints: Checkpoints | None = None,
        rounds: RoundData | None = None,
    ) -> None:
        """`selected`: the part of `ranked` that is trained on, if not all of it. `checkpoints`: which of them are rows
        besides the last ones. `rounds`: what later rounds are trained on, if there are any."""
        self.shared: dict[str, Stage] = {}
        self._setup = setup
        self._ranked = ranked
        self._checkpoints = checkpoints
        self._selected = selected or ranked
        self._rounds = rounds
        self._tuned: dict[str, PlannedRow] = {}
        self._trained: dict[str, Trained] = {}

    def rows(self, recipe: Recipe) -> list[PlannedRow]:
        """The untrained base, then the rows that are only fine-tuned, then one row per training, each followed by those
        of its checkpoints on the way, and by those of its later rounds."""
        base = self._row(PlannedRow(BASE, BASE), recipe.training)
        arms = arms_of(recipe)
        matches = {arm.id: matched_arm(recipe, arm, arms) for arm in arms}
        rounds = range(1, recipe.round_count + 1)
        trained = [row for arm in arms for number in rounds for row in self._rows_of(arm, number, matches)]
        rows = [base, *self._tuned.values(), *trained]
        # The references that training reads: TRL computes its own, and held-out figures in half precision need others.
        read = {needed.key for row in rows for stage in row.stages for needed in stage.inputs.values()}
        self.shared = {n: s for n, s in self.shared.items() if s.key in read or not n.startswith("reference/")}
        return rows

    def _rows_of(self, arm: Arm, number: int, matches: Matches) -> list[PlannedRow]:
        """The rows of a round of a training."""
        tuned = self._fine_tuned(arm.training)
        trained = self._train(arm, number, matches)
        matched = matches[arm.id]
        own = arm._replace(id=round_row(arm.id, number))
        row = PlannedRow(
            own.id,
            arm.method.label,
            policy=trained.policy,
            start=tuned.id if tuned else None,
            sft=tuned.policy if tuned else None,
            arm=own,
            matched=matched and matched._replace(id=round_row(matched.id, number)),
            data=trained.data,
        )
        if self._rounds:
            earlier = [self._train(arm, before, matches) for before in range(1, number)]
            sampled = [{**self._rounds.stages, **before.data}["responses"].key for before in earlier]
            keys = tuple(before.policy.key for before in earlier)
            row = replace(row, round=Round(number, self._rounds.rounds.count, keys, tuple(sampled)))
        points = self._points(arm, matched, number)
        on_the_way = [replace(row, id=point_row(own.id, point), point=point) for point in points]
        return [self._row(one, arm.training) for one in (row, *on_the_way)]

    def _row(self, row: PlannedRow, training: Training) -> PlannedRow:
        """The row with its evaluation on the held-out pairs. The reference of all rounds is the policy before the
        first, and the responses are those of the first, so that their figures are about the same."""
        adapter = deployed_adapter(training) if row.arm else None
        model = RowModel(self._setup.policy, row.policy, row.sft, adapter, row.point)
        trained_with = self._reference(training, row.sft)
        sizes, runtime = self._setup.sizes, self._setup.runtime
        needed = references(model, training, self._ranked, trained_with, sizes, runtime)
        reference = References(*(stage and self._shared_reference(stage) for stage in needed))
        heldout = heldout_stage(row.id, model, training, self._ranked, reference, sizes, runtime)
        return replace(row, adapter=adapter, heldout=heldout)

    def _reference(self, training: Training, sft: Stage | None) -> Stage:
        sizes, runtime = self._setup.sizes, self._setup.runtime
        stage = reference_stage(self._setup.policy, training, self._selected, sft, sizes, runtime)
        return self._shared_reference(stage)

    def _shared_reference(self, stage: Stage) -> Stage:
        return self.shared.setdefault(f"reference/{stage.key}", stage)

    def _fine_tuned(self, training: Training) -> PlannedRow | None:
        """The row of the fine-tuned policy that a training starts from; it shows the effect of fine-tuning alone."""
        if training.sft is None:
            return None
        row = f"{SFT}-{len(self._tuned) + 1}" if self._tuned else SFT
        stage = sft_stage(self._setup, row, training, training.sft, self._selected)
        if stage.key not in self._tuned:
            self.shared[f"{SFT}/{stage.key}"] = stage
            self._tuned[stage.key] = self._row(PlannedRow(row, SFT, policy=stage), training)
        return self._tuned[stage.key]

    def _train(self, arm: Arm, number: int, matches: Matches) -> Trained:
        """A round of a training, planned after the one before and after the one whose budget it gets."""
        row = round_row(arm.id, number)
        if row not in self._trained:
            tuned, matched = self._fine_tuned(arm.training), matches[arm.id]
            sft = tuned.policy if tuned else None
            budget = self._train(matched, number, matches).policy if matched else None
            points = self._points(arm, matched, number)
            if number == 1 or self._rounds is None:
                sources = Sources(self._selected, self._reference(arm.training, sft), sft, budget)
                policy = policy_stage(self._setup, arm, sources, points)
                self._trained[row] = Trained(policy, sources, self._selected, {})
            else:
                earlier = [self._train(arm, before, matches) for before in range(1, number)]
                data, sources = self._later(arm, number, self._rounds, earlier)
                setup = replace(self._setup, sizes=self._rounds.sizes(number))
                policy = policy_stage(setup, arm._replace(id=row), sources._replace(matched=budget), points)
                self._trained[row] = Trained(policy, sources, own_examples(data), data)
        return self._trained[row]

    def _later(
        self, arm: Arm, number: int, rounds: RoundData, earlier: list[Trained]
    ) -> tuple[dict[str, Stage], Sources]:
        """(the stages of the data, what it is trained with) of a round after the first."""
        row, before, previous = round_row(arm.id, number), round_row(arm.id, number - 1), earlier[-1]
        sft, policy = previous.sources.sft, self._setup.policy
        model = RowModel(policy, previous.policy, sft, deployed_adapter(arm.training))
        data = rounds.of(row, number, before, model, [trained.own for trained in earlier])
        examples = [*data.values()][-1]
        reference = reference_stage(
            policy,
            arm.training,
            examples,
            sft,
            rounds.sizes(number),
            self._setup.runtime,
            previous.policy if rounds.rounds.reference == "previous" else None,
        )
        reference = replace(reference, id=f"reference/{row}")
        return data, Sources(examples, reference, sft, previous=previous.policy, later=rounds.later(number))

    def _points(self, arm: Arm, matched: Arm | None, number: int) -> tuple[Point, ...]:
        sizes = self._rounds.sizes(number) if self._rounds and number > 1 else self._setup.sizes
        return points_of(arm, matched, self._checkpoints, sizes)
