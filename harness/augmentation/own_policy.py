"""A policy of the run as a generator of responses: what a round has trained, for the next one."""

from collections.abc import Sequence
from typing import Any, Literal

from harness.models.batching import Job
from harness.models.decode import sampling
from harness.models.load import sampling_identity
from harness.protocols import Arrived, Generator, SampleRequest
from harness.recipe.policy import Policy, policy_identity, policy_tokenizer
from harness.servers.adapting.continuing import Continuing
from harness.serving.engine import Engine, Named
from harness.training.checkpoint import RowModel, Weights


class OwnPolicy(Generator):
    """Samples from a trained policy as `like`, the recipe's generator of the untrained one, does: in process, or by the
    same engine, which is given its adapter. A recipe can't name it. `row`: of the round that has trained it; `trained`:
    the key of its training, so that the pool never mixes the samples of two policies; `weights`: known when the stage
    runs. `rank`: of the largest adapter that the engine is given in this run."""

    name: Literal["policy"] = "policy"
    row: str
    trained: str
    policy: Policy
    like: Generator
    dtype: str
    rank: int | None = None
    own_rank: int | None = None
    weights: Weights | None = None

    @classmethod
    def after(cls, row: str, model: RowModel, like: Generator, rank: int | None) -> "OwnPolicy":
        """The generator of `model`, the policy of a row."""
        assert model.trained is not None
        policy = model.policy
        if not isinstance(like, Continuing):  # which may have values of its own for the chat template
            policy = policy.model_copy(update={"chat_template_kwargs": dict(like)["chat_template_kwargs"]})
        return cls.model_construct(
            name="policy",
            row=row,
            trained=model.trained.key,
            policy=policy,
            like=like,
            dtype=model.dtype,
            rank=rank,
            own_rank=model.adapter.r if model.adapter else None,
            weights=None,
        )

    @property
    def parallel_requests(self) -> int:
        return self.like.parallel_requests

    def identity(self) -> dict[str, Any]:
        policy = policy_identity(self.policy) | {"dtype": self.dtype}
        policy |= sampling_identity(self.policy.model, self.policy.revision)
        how = {"served_by": self.engine.name} if self.engine else {"sampling": sampling.VERSION}
        return {"name": self.name, "model": self.row, "trained": self.trained, "policy": policy, **how}

    def models_in_process(self) -> list[str]:
        return [] if self.engine else [self.policy.model]

    @property
    def engine(self) -> Engine | None:
        """What serves it; None: it is decoded in process."""
        named = self.like.engine if isinstance(self.like, Continuing) else None
        return named.engine if named else None

    def generate(self, requests: Sequence[SampleRequest], *, seed: int, arrived: Arrived) -> None:
        from harness.models import chat

        assert self.weights is not None
        tokenizer = policy_tokenizer(self.policy)
        jobs = []
        for text, how, samples in requests:
            prompt = list(tokenizer.encode(text)) if isinstance(text, str) else chat.encode_prompt(tokenizer, text)
            if self.engine:  # which doesn't close thoughts
                one = {"max_new_tokens": how.most_tokens, "max_thinking_tokens": None}
                how = how.model_copy(update=one)
            jobs.append(Job(prompt, how, samples))
        if self.engine is None:
            from harness.models.decoding import decode

            size = dict(self.like).get("batch_size")
            decode(self.weights.load(), tokenizer, jobs, seed=seed, batch_size=size, arrived=arrived)
        else:
            self._ask(self.engine, self.weights, tokenizer, jobs, seed, arrived)

    def _ask(
        self, engine: Engine, weights: Weights, tokenizer: Any, jobs: Sequence[Job], seed: int, arrived: Arrived
    ) -> None:
        from harness.models.decode.elsewhere import Elsewhere

        assert isinstance(self.like, Continuing)
        assert self.like.engine is not None
        rank = self.rank if weights.model == self.policy.model else self.own_rank
        serving = engine.of(weights.model, weights.revision, weights.dtype, rank)
        served = self.like.on(Named(self.like.engine.name, serving), weights.adapter)
        model = Elsewhere(weights.model, weights.revision, tokenizer, serving.window)
        threads = self.parallel_requests
        served.write(jobs, model, seed=seed, arrived=arrived, then=lambda _: None, threads=threads, look=lambda: None)
