"""The loads of components: their models in this process, and those of the engines that the harness runs for them."""

from collections.abc import Iterable, Sequence

from harness.models.demand.loads import SEQUENCES, Decoding, Load, Scoring
from harness.models.demand.shapes import shape_of
from harness.models.demand.training import Training
from harness.protocols import Component

Served = tuple[str | None, int]
"""The model of an engine that the harness runs, if the recipe names it, and the GPUs of a replica."""


def loaded(component: Component) -> list[tuple[str, str]]:
    """The models that this process loads for a component, each with the dtype of its weights."""
    inner = [pair for part in component.components() for pair in loaded(part)]
    own = str(dict(component).get("dtype", "float32"))
    names = [name for name, _ in inner]
    return inner + [(model, own) for model in component.models_in_process() if model not in names]


def scoring(component: Component, tokens: float, row: int, rows: int, processes: int = 1) -> tuple[Load, ...]:
    """Forward passes of a component's models, `rows` at a time."""
    longest = min(row, int(dict(component).get("max_length") or row))
    return tuple(
        Scoring(model, tokens, longest, rows, dtype, processes, batch_field="batch_size")
        for model, dtype in loaded(component)
    )


def training(component: Component, tokens: float, row: int) -> tuple[Load, ...]:
    """The training of a component's models on so many tokens of pairs; none without tokens."""
    if not tokens:
        return ()
    fields = dict(component)
    rank = int(fields.get("lora_r", 16)) if fields.get("lora", True) else None
    rows = 2 * int(fields.get("micro_batch_size", 1))
    longest = min(row, int(fields.get("max_length", row)))
    return tuple(Training(model, tokens, longest, rows, dtype, rank=rank) for model, dtype in loaded(component))


def sampling(
    components: Sequence[Component], texts: float, longest: int, prompt: int, engines: Iterable[Served] = ()
) -> tuple[Load, ...]:
    """`texts` texts of `longest` tokens, evenly from all components, in process or by engines. `prompt`: tokens of a
    prompt."""
    each = texts / max(1, len(components))
    loads: list[Load] = []
    for component in components:
        fields = dict(component)
        parallel = fields.get("parallel")  # only an engine in this process has it
        rows = fields.get("batch_size") or SEQUENCES
        for model, dtype in loaded(component):
            loads.append(
                Decoding(
                    *(model, each * longest, prompt + longest, rows, dtype, parallel or 1),
                    read=each * prompt,
                    written=longest,
                    texts=each,
                    by_engine=parallel is not None,
                )
            )
    return (*loads, *by_engines(engines, each, longest, prompt))


def by_engines(engines: Iterable[Served], texts: float, longest: int, prompt: int) -> tuple[Load, ...]:
    """`texts` texts of `longest` tokens by each engine, all of its replicas together."""
    return tuple(
        Decoding(
            *(model, texts * longest, prompt + longest, SEQUENCES, "bfloat16", max(1, gpus)),
            read=texts * prompt,
            written=longest,
            texts=texts,
            by_engine=True,
        )
        for model, gpus in engines
        if model is not None
    )


QUESTION = 256
"""Tokens that precede an answer, for estimates: our assumption."""


def answering(
    model: str, dtype: str, turns: int, tokens: int, longest: int, scored: int, gpus: int | None
) -> tuple[Load, ...]:
    """A policy that writes so many tokens in so many turns, each of at most `longest`, and scores others. `gpus`: of
    the engine that writes; None: in process."""
    loads: list[Load] = [Scoring(model, scored, 2 * QUESTION, 16, dtype)] if scored else []
    if tokens:
        load = Decoding(
            *(model, tokens, QUESTION + longest, SEQUENCES, dtype, max(1, gpus or 1)),
            read=turns * QUESTION,
            written=longest,
            texts=turns,
            by_engine=gpus is not None,
        )
        loads.append(load)
    return tuple(loads)


def unknown(loads: Iterable[Load]) -> list[str]:
    """The models of loads whose dimensions are unknown."""
    return sorted({load.model for load in loads if shape_of(load.model) is None})
