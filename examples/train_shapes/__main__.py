"""`python -m examples.train_shapes`: learn the world of moving shapes, judge what was learnt, draw a contact sheet.

Decides the command line; must never know how learning works.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from examples.train_shapes.judge import judge as judge_rollouts
from examples.train_shapes.learning import Course, Learner, load_checkpoint, save_checkpoint
from examples.train_shapes.rollouts import play, random_scenes
from examples.train_shapes.sheet import scenes, write_sheet
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.weights import BUNDLED, load, load_bundled, save
from runtime.cli.errors import told
from runtime.cli.interrupt import first_interrupt_stops
from runtime.cli.output import print_columns

_WEIGHTS = Path(__file__).parents[2] / "runtime" / "chunk_models" / "transformer" / "weights" / BUNDLED
_RECENT = 100  # lessons over which the shown error is a mean

app = typer.Typer(
    help="Teach the video transformer moving shapes.", add_completion=False, pretty_exceptions_enable=False
)


@app.command(epilog="Example: python -m examples.train_shapes learn shapes.checkpoint.safetensors --lessons 6000")
def learn(
    checkpoint: Annotated[Path, typer.Argument(help="Written as learning goes on; if it is there, learning goes on.")],
    lessons: Annotated[int | None, typer.Option(min=1, help="How many in all; may change as learning goes on.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a new checkpoint only.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="Where a new checkpoint begins; default: from nothing.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Lessons between two checkpoints.")] = 200,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 1,
) -> None:
    """Learn until all lessons are done. Ctrl-C keeps what was learnt; the same command then goes on."""
    with told():
        torch.set_num_threads(threads)
        learner, done = load_checkpoint(checkpoint) if checkpoint.exists() else (_begun(seed, weights), 0)
        total = lessons or learner.course.lessons
        learner = replace(learner, course=msgspec.structs.replace(learner.course, lessons=total))
        recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        with _bar("learning", total, done) as heard, first_interrupt_stops("what was learnt is kept") as stop:
            while done < total and not stop():
                recent.append(learner.learn(done))
                done += 1
                heard(1, _errors(recent))
                if done % every == 0 or done == total or stop():
                    save_checkpoint(checkpoint, learner, done)
                    print(f"{done}/{total} {_errors(recent)}", flush=True)
        if done < total:
            raise KeyboardInterrupt


@app.command(epilog="Example: python -m examples.train_shapes export shapes.checkpoint.safetensors -o mine.safetensors")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Made by learn.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the weights go.")] = _WEIGHTS,
) -> None:
    """Write the averaged weights of a checkpoint, in half precision."""
    with told():
        learner, done = load_checkpoint(checkpoint)
        save(output, learner.average)
        print(f"{output}: after {done} of {learner.course.lessons} lessons")


@app.command(epilog="Example: python -m examples.train_shapes judge --scenes 200 --chunks 20")
def judge(
    weights: Annotated[Path | None, typer.Option(help="Default: those that come with the package.")] = None,
    count: Annotated[int, typer.Option("--scenes", min=1, help="Random prompts per profile.")] = 200,
    chunks: Annotated[int, typer.Option(min=8, help="Of each scene.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 1,
) -> None:
    """Play random scenes, steered and with new prompts, and print how often the video shows what was asked."""
    with told():
        torch.set_num_threads(threads)
        network = load_bundled() if weights is None else load(weights)
        columns: dict[str, list[str]] = {}
        names = [one.name for one in network.configuration.resolutions]
        with _bar("judging", count * chunks * len(names)) as heard:
            for name in names:
                model, asked = TransformerChunkModel(network), random_scenes(name, count, chunks, seed)
                rollouts = play(model, asked, chunks, lambda more: heard(more, "judging"))
                for claim, verdict in judge_rollouts(rollouts).items():
                    columns.setdefault(claim, []).append(f"{verdict.share:.1%} of {verdict.of}")
        print_columns(names, columns)


@app.command(epilog="Example: python -m examples.train_shapes sheet -o docs/images/shapes.png")
def sheet(
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")],
    weights: Annotated[Path | None, typer.Option(help="Default: those that come with the package.")] = None,
    chunks: Annotated[int, typer.Option(min=1, help="Of each scene.")] = 14,
) -> None:
    """Draw what the network makes of a few prompts and controls."""
    with told():
        torch.set_num_threads(1)
        network = load_bundled() if weights is None else load(weights)
        rollouts = []
        for resolution in network.configuration.resolutions:
            rollouts += play(TransformerChunkModel(network), scenes(resolution.name), chunks)
        write_sheet(output, rollouts)
        print(f"{output}: {len(rollouts)} scenes of {chunks} chunks")


def _begun(seed: int, weights: Path | None) -> Learner:
    if weights is None:
        return Learner.begin(Course(seed=seed))
    learnt = load(weights)
    return Learner.begin(Course.further(learnt.configuration, seed), learnt)


@contextmanager
def _bar(name: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A function that hears of progress, and moves a bar on stderr if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task(name, total=total, completed=done)
        yield lambda more, said: bar.update(row, advance=more, description=said)


def _errors(recent: deque[tuple[float, float]]) -> str:
    first, later = (sum(column) / len(recent) for column in zip(*recent, strict=True))
    return f"error {first:.4f} first, {later:.4f} later"


if __name__ == "__main__":
    app(prog_name="python -m examples.train_shapes")
