"""The stages of the data."""

from harness.engine.stage import Stage
from harness.recipe.data import Data
from harness.recipe.policy import Policy
from harness.recipe.recipe import Recipe
from harness.recipe.sizes import Sizes
from harness.stages.agreement import comparison_stages
from harness.stages.data_report import report_stage
from harness.stages.dataset import dataset_stage
from harness.stages.making.imported import imported_stage
from harness.stages.making.pairs import pairs_stage
from harness.stages.making.share import share_stage
from harness.stages.prompts import prompts_stage
from harness.stages.proxies.samples import gold_stages
from harness.stages.ranked import ranked_stage, seed_pairs_stage
from harness.stages.responses import responses_stage
from harness.stages.reward import reward_stage
from harness.stages.seeds import leak_search, seeds_stage


def data_stages(recipe: Recipe, policy: Policy, data: Data, sizes: Sizes) -> dict[str, Stage]:
    """The stages of the ranked dataset by name, with those that only describe it."""
    seed, launch = recipe.seed, recipe.runtime.launch
    search = leak_search(data, recipe.evaluation)
    stages = {"seeds": seeds_stage(data, search, seed)}
    if data.ranked:
        stages["ranked"] = imported_stage(stages["seeds"])
    elif data.responses is None or data.reward is None:  # a recipe has both or neither
        stages["ranked"] = seed_pairs_stage(stages["seeds"])
    else:
        used = None
        if data.new_prompts:
            used = stages["prompts"] = prompts_stage(data.new_prompts, stages["seeds"], search, seed)
            if (ratio := data.generated_per_seed) is not None:
                used = stages["share"] = share_stage(ratio, data.responses.seed_prompts, stages["seeds"], used)
        stages["responses"] = responses_stage(data.responses, stages["seeds"], used, seed, sizes, policy.thinking)
        reward = reward_stage(data.reward, stages["seeds"], seed, sizes, launch=launch)
        stages |= {role: part for role, part in reward.inputs.items() if role != "seeds"}  # its parts first
        stages["reward"] = reward
        stages["ranked"] = ranked_stage(data.reward, stages["responses"], reward, sizes, launch)
        stages |= comparison_stages(data.reward, data.other_rewards, stages, seed, sizes, launch)
    if recipe.evaluation and (gold := recipe.evaluation.gold_reward):
        stages |= gold_stages(gold, stages, seed, sizes, launch)
    if data.selection.selects:
        stages["pairs"] = pairs_stage(data.selection, policy, stages["ranked"])
    if data.report:
        stages["report"] = report_stage(data.report, policy, stages["seeds"], stages["ranked"], seed, sizes)
    return stages | {"dataset": dataset_stage(recipe.name, data, stages)}
