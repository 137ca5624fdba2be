"""Tables of a plan for a terminal: stages, the cells of a sweep, what they share and what sharing saves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.judging.costs import price_lines
from harness.judging.retirements import retirement_lines, today
from harness.models.demand.devices import Devices, device
from harness.pipeline.detect.lines import power_lines
from harness.pipeline.estimates import Cost, Estimates, total_cost
from harness.pipeline.gpu_view import gpu_view, memory_lines
from harness.pipeline.study import StudyPlan
from harness.printable import printable
from harness.servers.prices import dollars
from harness.servers.spending import JudgeCost, total
from harness.serving.engine import Engine
from harness.stage_kinds import phase

SHOWN = 60
"""The largest number of cells listed."""


def plan_view(estimates: Estimates, on: Devices | None = None) -> list[RenderableType]:
    """The parts of what `harness plan` prints. `on`: the GPUs that it is for; None: this machine."""
    with estimates.fetching():
        return list(_parts(estimates, on))


def _parts(estimates: Estimates, on: Devices | None) -> Iterator[RenderableType]:
    plan = estimates.plan
    if on is not None:
        yield from gpu_view(estimates, on)
        yield from _judging_table(plan, estimates)
    else:
        yield from _sweep(plan, estimates) if plan.study.axes else _stages(plan, estimates)
        yield from _unknown(estimates)
        yield from memory_lines(estimates, device())
    if estimates.unpriced:
        line = f"Judging costs of {len(estimates.unpriced)} stages are unknown offline: their questions are not here"
        yield Text(f"{line}.", style="yellow")
    recipes = [cell.recipe for cell in plan.study.cells]
    for line in (*retirement_lines(recipes, today()), *price_lines(recipes)):
        yield Text(printable(f"{line}."), style="yellow")
    for line in _engines(estimates):
        yield Text(printable(line), style="dim")
    for reason in sorted({cell.auto_dtype for cell in plan.study.cells} - {""}):
        yield Text(printable(f"{reason}."), style="dim")
    sweep = "own: stages that no other cell needs; alone: each cell in its own run; " if plan.study.axes else ""
    if on is None:
        rate = f"{device().single / 1e9:,.0f} GFLOP/s in {'bfloat16' if device().is_gpu else 'float32'}, measured now"
        yield Text(
            f"{sweep}generate, train on, score: tokens; judge: calls. Times are for {device().name} ({rate}), "
            "one stage after the other, with texts of maximum length: a guide to what dominates, not a promise.",
            style="dim",
        )
    for line in power_lines(plan.study):
        yield Text(printable(line))


def _unknown(estimates: Estimates) -> Iterator[Text]:
    """Why the costs of stages are unknown."""
    missing = {key: reason for key, reason in estimates.unknown.items() if key not in estimates.stored}
    for reason in sorted(set(missing.values())):
        count = list(missing.values()).count(reason)
        stages = f"{count} stage{'s' * (count > 1)}"
        yield Text(printable(f"Unknown, and not in the times, of {stages}: {reason}."), style="yellow")


def _engines(estimates: Estimates) -> Iterator[str]:
    """Which engines are started, and for which stages."""
    started: dict[str, tuple[Engine, list[str]]] = {}
    for (name, engine), stage in estimates.starts:
        started.setdefault(name, (engine, []))[1].append(stage.id)
    for name, (engine, stages) in started.items():
        replicas = f"{engine.replicas} replica{'s' * (engine.replicas > 1)}"
        who = f"{engine.name}, {engine.served_name or Path(engine.command[0]).name}, {replicas}"
        times = "once" if len(stages) == 1 else f"{len(stages)} times"
        yield f"Engine {name} ({who}) is started {times}, before {', '.join(stages[:3])}{', …' * (len(stages) > 3)}."


def _stages(plan: StudyPlan, estimates: Estimates) -> Iterator[RenderableType]:
    table = Table(box=None, header_style="bold")
    table.add_column("stage", overflow="fold")
    for title in ("key", "state", "time", "generate", "train on", "judge"):
        table.add_column(title, no_wrap=True, justify="left" if title in ("key", "state") else "right")
    for stage in plan.stages:
        is_stored = stage.key in estimates.stored
        cost = Cost() if is_stored else estimates.cost([stage.key])
        state = "in the store" if is_stored else "to run"
        time = "unknown" if stage.key in estimates.unknown and not is_stored else duration(cost.seconds)
        table.add_row(printable(stage.id), stage.key[:12], state, time, *_tokens(cost))
    table.add_section()
    left = estimates.left
    amounts = [f"{value:,}" for value in (left.generated, left.trained, left.calls)]
    unknown = len(estimates.unknown.keys() - estimates.stored)
    label = f"about, in all{f', without {unknown} unknown' if unknown else ''}"
    table.add_row(label, "", "", duration(left.seconds), *amounts, style="bold")
    yield table
    yield from _judging_table(plan, estimates)


def _judging_table(plan: StudyPlan, estimates: Estimates) -> Iterator[RenderableType]:
    ids = {stage.key: stage.id for stage in plan.stages}
    if estimates.judging and not plan.study.axes:
        yield _judging({ids[key]: cost for key, cost in estimates.judging.items()})


def _judging(costs: Mapping[str, JudgeCost]) -> Table:
    """Estimated judging costs by stage."""
    table = Table(box=None, header_style="bold", title="Judging", title_justify="left", title_style="bold")
    table.add_column("stage", overflow="fold")
    for title in ("calls", "answered\nalready", "tokens in,\nabout", "tokens out,\nabout", "about", "at most"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("prompts from")
    for name, cost in [*costs.items(), ("in all", total(list(costs.values()), ""))]:
        if name == "in all":
            table.add_section()
        counts = (f"{n:,}" for n in (cost.calls, cost.answered, cost.prompt_tokens, cost.reply_tokens))
        table.add_row(printable(name), *counts, dollars(cost.dollars), dollars(cost.at_most), printable(cost.basis))
    return table


def _sweep(plan: StudyPlan, estimates: Estimates) -> Iterator[RenderableType]:
    yield Text(f"{len(plan.study.cells)} cells, {len(plan.rows)} rows, {len(plan.stages):,} stages", style="bold")
    yield _cells(plan, estimates)
    yield _kinds(plan, estimates)
    yield _totals(estimates)
    saved, alone, together = _saved(estimates)
    yield Text(
        f"All cells in one run take {1 - saved:.0%} less time than each alone ({duration(together.seconds)} instead of "
        f"{duration(alone.seconds)}) and generate {1 - _ratio(together.generated, alone.generated):.0%} fewer tokens "
        f"({together.generated:,} instead of {alone.generated:,}).",
        style="bold",
    )


def _saved(estimates: Estimates) -> tuple[float, Cost, Cost]:
    alone, together = total_cost(estimates.alone), estimates.together
    return _ratio(together.seconds, alone.seconds), alone, together


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _cells(plan: StudyPlan, estimates: Estimates) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("cell", overflow="fold", min_width=24)
    for title in ("stages", "own", "in\nstore", "alone", "generate", "train on", "judge"):
        table.add_column(title, no_wrap=True, justify="right")
    paid = any(cost.dollars != 0 for cost in estimates.alone)
    if paid:
        table.add_column("dollars", no_wrap=True, justify="right")
    for number, cell in enumerate(plan.study.cells[:SHOWN]):
        keys = set(estimates.cell(number))
        unshared = sum(len(plan.needed_by[key]) == 1 for key in keys)
        cost = estimates.alone[number]
        counts = [str(len(keys)), str(unshared), str(len(keys & estimates.stored))]
        table.add_row(
            printable(cell.id),
            *counts,
            duration(cost.seconds),
            *_tokens(cost),
            *([dollars(cost.dollars)] if paid else []),
        )
    if (more := len(plan.study.cells) - SHOWN) > 0:
        table.add_row(f"… and {more} more")
    return table


def _kinds(plan: StudyPlan, estimates: Estimates) -> Table:
    """Stages by kind: their number in one run, and in one run per cell."""
    table = Table(box=None, header_style="bold")
    table.add_column("kind", no_wrap=True)
    for title in ("stages", "alone", "shared", "in\nstore", "time", "generate", "train on", "judge"):
        table.add_column(title, no_wrap=True, justify="right")
    names = {stage.key: stage.name for stage in plan.stages}
    alone = Counter(names[key] for key, cells in plan.needed_by.items() for _ in cells)
    for kind in sorted(set(names.values()), key=lambda n: (phase(n), n)):
        keys = [key for key, name in names.items() if name == kind]
        shared = sum(len(plan.needed_by[key]) > 1 for key in keys)
        cost = estimates.cost(keys)
        counts = [len(keys), alone[kind], shared, len(estimates.stored.intersection(keys))]
        table.add_row(printable(kind), *(f"{n:,}" for n in counts), duration(cost.seconds), *_tokens(cost))
    return table


def _totals(estimates: Estimates) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("about, in all", no_wrap=True)
    rows = {
        "each cell alone": total_cost(estimates.alone),
        "all in one run": estimates.together,
        "still to run": estimates.left,
    }
    paid = any(cost.dollars != 0 for cost in rows.values())
    for title in ("time", "generate", "train on", "score", "judge", *(("dollars", "at most") if paid else ())):
        table.add_column(title, no_wrap=True, justify="right")
    for name, cost in rows.items():
        tokens = [amount(value) for value in (cost.generated, cost.trained, cost.scored, cost.calls)]
        table.add_row(
            name, duration(cost.seconds), *tokens, *([dollars(cost.dollars), dollars(cost.at_most)] if paid else [])
        )
    return table


def _tokens(cost: Cost) -> list[str]:
    return [amount(value) if value else "" for value in (cost.generated, cost.trained, cost.calls)]


def amount(value: int) -> str:
    """`12,345`, `4.57M`, `1,234M`."""
    millions = value / 1e6
    return f"{value:,}" if millions < 1 else f"{millions:.2f}M" if millions < 100 else f"{millions:,.0f}M"


def duration(seconds: float) -> str:
    """`1 h 05 min`, `3 min 20 s`, `12 s`; empty for less than 0.05 s."""
    if seconds < 0.05:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02d} min"
