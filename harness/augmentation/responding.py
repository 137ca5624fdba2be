"""Responses to prompts: a shard draws its prompts' samples, and the results of all shards become groups of responses.

What a sample's text is, without its thoughts, is decided when all have been drawn: whether a server's prompts open a
thought shows in all of its texts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.augmentation.pool import Pool
from harness.components import identity
from harness.engine.journal import content_key
from harness.engine.shards.spool import Shard
from harness.engine.stage import Context
from harness.errors import ModelError
from harness.models.templates.stripping import Openings, Thoughts, count_thoughts
from harness.models.templates.thoughts import Thinking
from harness.protocols import Generator
from harness.recipe.data import ResponseGeneration, ResponseSource
from harness.types import Completion, RankedExample, Record, Response, ResponseGroup, Sampling

OWN = (0, 2)
"""Responses that a group may have before any is sampled."""
Part = tuple[int, int]
"""Texts of one source: how many responses their groups had already, and the place of the source among theirs."""


class Drawn(Record):
    """A prompt's group, with its sampled texts, source by source. None: refused by a server that answers others."""

    group: ResponseGroup
    samples: tuple[tuple[Completion | None, ...], ...]


class Seen(NamedTuple):
    """What a shard's texts have shown: the openings of served texts, and why samples were refused, if any were."""

    openings: dict[Part, Openings]
    refusal: str | None


def draw(config: ResponseGeneration, seed: int, ctx: Context, shard: Shard) -> Seen:
    """Sample what a shard's prompts miss; the results are `Drawn`."""
    groups = list(shard.rows(ResponseGroup))
    drawn: list[list[tuple[Completion | None, ...]]] = [[] for _ in groups]
    openings: dict[Part, Openings] = {}
    refusal: str | None = None
    for present in OWN:
        part = [i for i, group in enumerate(groups) if len(group.responses) == present]
        offsets: Counter[str] = Counter()  # a generator that is named twice goes on with its next samples
        for place, source in enumerate(_sources(config, present) if part else []):
            name = content_key(identity(source.generator))
            samples = range(offsets[name], offsets[name] + source.n)
            offsets[name] += source.n
            pool = Pool(source.generator, ctx.store.pool, seed=seed, advance=ctx.progress.advance, shard=ctx.shard)
            rows = pool.sample([groups[i].messages for i in part], _sampling(config), samples)
            refusal = refusal or pool.refusal
            for i, row in zip(part, rows, strict=True):
                drawn[i].append(tuple(row))
            if source.generator.is_served:
                openings[present, place] = Openings.of(text for row in rows for text in row if text is not None)
    shard.write(Drawn(group=g, samples=tuple(texts)) for g, texts in zip(groups, drawn, strict=True))
    return Seen(openings, refusal)


def _sources(config: ResponseGeneration, present: int) -> list[ResponseSource]:
    """The sources of groups that have so many responses already."""
    return config.sources_of(config.n - present) if present < config.n else []


def _sampling(config: ResponseGeneration) -> Sampling:
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        max_thinking_tokens=config.max_thinking_tokens,
    )


def generator_name(generator: Generator) -> str:
    """A generator's name and model."""
    fields = identity(generator)
    return f"{fields['name']}:{fields.get('model', '')}".rstrip(":")


class _Named(NamedTuple):
    """A source's name on its responses, and what its texts say of its prompts."""

    name: str
    openings: Openings


class Responses:
    """Makes groups of responses of what was drawn, and counts them for the stage's report. `shards`: what each has
    seen."""

    def __init__(self, config: ResponseGeneration, thinking: Thinking, shards: Sequence[Seen]) -> None:
        self._sources: dict[Part, _Named] = {}
        for present in OWN:
            for place, source in enumerate(_sources(config, present)):
                seen = (shard.openings.get((present, place), Openings()) for shard in shards)
                self._sources[present, place] = _Named(generator_name(source.generator), sum(seen, Openings()))
        self._thoughts = Thoughts(thinking)
        self._models: Counter[str] = Counter()
        self._own = OwnThoughts()
        self._counts: Counter[str] = Counter()
        self._refused = 0
        self._refusal = next((shard.refusal for shard in shards if shard.refusal), None)

    def groups(self, rows: Iterable[Drawn]) -> Iterator[ResponseGroup]:
        """All groups but those whose responses are all the same, or which have less than two since others were refused.
        Raises ModelError if most samples were refused."""
        for row in rows:
            group = self._group(row)
            self._own.note(group)
            texts = {r.text for r in group.responses}
            if len(texts) > 1:
                self._count(group, len(texts))
                yield group
            else:
                self._counts["left_out" if any(None in part for part in row.samples) else "identical"] += 1
        if self._refused > (written := self._thoughts.texts):
            raise ModelError(
                f"data.responses: {self._refused:,} of {self._refused + written:,} samples were refused by "
                f"their server ({self._refusal}); the others are kept: change what that is about, and run again"
            )

    def _group(self, row: Drawn) -> ResponseGroup:
        responses = list(row.group.responses)
        for place, part in enumerate(row.samples):
            name, openings = self._sources[len(row.group.responses), place]
            texts = [text for text in part if text is not None]
            self._refused += len(part) - len(texts)
            self._models.update(Pool.models(texts))
            for text in map(openings.marked, texts):
                answer = self._thoughts.answer(text)
                responses.append(Response(text=answer, source=name, finish_reason=text.finish_reason))
                self._counts["tokens"] += text.tokens
        return row.group.model_copy(update={"responses": tuple(responses)})

    def _count(self, group: ResponseGroup, distinct: int) -> None:
        sampled = [r for r in group.responses if r.finish_reason is not None]
        self._counts["prompts"] += 1
        self._counts["responses"] += len(group.responses)
        self._counts["sampled"] += len(sampled)
        self._counts["repeated"] += len(group.responses) - distinct
        self._counts["empty"] += sum(not r.text.strip() for r in sampled)
        self._counts["cut"] += sum(r.finish_reason == "length" for r in sampled)

    def report(self, ctx: Context) -> dict[str, Any]:
        """Counts, with warnings of what is unusual. Raises ModelError where thoughts are refused."""
        counts, thoughts = self._counts, self._thoughts.report
        if self._thoughts.unfinished:
            ctx.log.warning(
                "%d of %d sampled responses end inside their thought and have no answer: raise max_new_tokens of "
                "data.responses, or set its max_thinking_tokens",
                self._thoughts.unfinished,
                self._thoughts.texts,
            )
        return {
            "prompts": counts["prompts"],
            "responses": counts["responses"],
            "sampled": counts["sampled"],
            "dropped_all_identical": counts["identical"],
            "repeated_responses": counts["repeated"],
            "empty": counts["empty"],
            "cut_at_token_limit": counts["cut"],
            "tokens": counts["tokens"],
            **({"models": dict(sorted(self._models.items()))} if self._models else {}),
            **thoughts,
            **self._own.report(ctx),
            **self._refusals(ctx),
        }

    def _refusals(self, ctx: Context) -> dict[str, int]:
        if not self._refused:
            return {}
        ctx.log.warning(
            "%d samples were refused (%s): their prompts have fewer responses, and %d prompts are left out",
            self._refused,
            self._refusal,
            self._counts["left_out"],
        )
        return {"refused_samples": self._refused, "dropped_refused": self._counts["left_out"]}


class OwnThoughts:
    """Counts the seed's own answers, and those that have a thought."""

    def __init__(self) -> None:
        self._answers = self._thoughts = 0

    def note(self, group: ResponseGroup | RankedExample) -> None:
        own = [r.text for r in group.responses if r.finish_reason is None]
        self._answers += len(own)
        self._thoughts += count_thoughts(own)

    def report(self, ctx: Context) -> dict[str, int]:
        """For a report, with a warning; empty if none has a thought."""
        if not self._thoughts:
            return {}
        what = "%d of %d answers of the seed sets have a thought, which is scored and trained on as it is"
        ctx.log.warning(what, self._thoughts, self._answers)
        return {"seed_answers_with_thoughts": self._thoughts}
