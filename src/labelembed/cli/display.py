"""Progress with the time left: a live display on a terminal, plain lines elsewhere, on standard error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelembed.training.jobs import Event
    from labelembed.training.progress import Progress

_PLAIN_LINE_SECONDS = 1.0
_READING_LINE_SECONDS = 10.0


def duration(seconds: float) -> str:
    """Returns a time as people say it: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def measures_text(line: dict[str, Any] | None) -> str:
    """Returns the errors of a journal's line, of translations BLEU, for a progress line."""
    if not line:
        return ""
    parts = [f"{name} {_headline(line[name])}" for name in ("validation", "test") if line.get(name)]
    return ", ".join(parts)


def terms_text(line: dict[str, Any] | None) -> str:
    """Returns the mean of each term of the loss in an epoch, for a progress line: ``total 0.53, output 0.31``."""
    terms = (line or {}).get("train")
    if not isinstance(terms, dict):
        return ""
    # Of a loss of one term the total says it all, and a term that is 0 is mostly one that is not asked for.
    shown = [name for name in terms if terms[name]] if len(terms) > 2 else list(terms)[:1]
    return ", ".join(f"{name} {terms[name]:.3g}" for name in shown)


def _epoch_text(line: dict[str, Any] | None) -> str:
    return "; ".join(text for text in (measures_text(line), terms_text(line)) if text)


def _is_live() -> bool:
    """Returns whether lines can be written over: not into a file or a pipe, nor on a terminal that only prints."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _headline(measures: dict[str, Any]) -> str:
    bleu = f"BLEU {100 * measures['bleu']:.2f}" if "bleu" in measures else ""
    error = f"error {measures['error']:.2%}"
    return f"{bleu} (token {error})" if bleu else error


class ReadingText:
    """Says how far the reading of data is that takes long.

    Args:
        kind: Name of the data in the recipe.
    """

    def __init__(self, kind: str) -> None:
        self._what = "texts through the encoder" if kind == "texts" else "decoding pictures"
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> str:
        """Returns how much is done, and how long the rest will take by what was done since the first call."""
        text = f"{self._what}: {done:,} of {total:,} ({done / max(total, 1):.0%})"
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        before, began = self._first
        if done >= total:
            from labelembed.data.cache import cache_folder  # loaded by then; it would slow down `--help`

            return f"{text}, kept in {cache_folder()}"
        if before < done:
            text += f", {duration((now - began) / (done - before) * (total - done))} left"
        return text


@contextmanager
def reading_shown(kind: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Gives a callback that shows on standard error how far the reading of data is.

    On a terminal one line is written over and over; elsewhere a line every ten seconds.

    Args:
        kind: Name of the data in the recipe.
        quiet: Show nothing.
    """
    text = ReadingText(kind)
    with _said(quiet=quiet) as say:
        yield lambda done, total: say(text(done, total), done >= total)


@contextmanager
def counting_shown(text: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Gives a callback that shows on standard error how many there are so far, as `reading_shown` does.

    Args:
        text: With one place for the number: ``"translated {:,} lines"``.
        quiet: Show nothing.
    """
    with _said(quiet=quiet) as say:
        yield lambda done: say(text.format(done), False)


@contextmanager
def _said(*, quiet: bool) -> Iterator[Callable[[str, bool], None]]:
    """Gives a callback for a text that is shown now and then, and whether it is the last one."""
    live = _is_live()
    said_at = time.monotonic()
    open_line = False

    def say(text: str, last: bool) -> None:
        nonlocal said_at, open_line
        now = time.monotonic()
        if quiet or (now - said_at < (0.2 if live else _READING_LINE_SECONDS)):
            return
        said_at, open_line = now, live
        print(f"\r{text}" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)
        if live and last:
            print(file=sys.stderr)
            open_line = False

    try:
        yield say
    finally:
        if open_line:
            print(file=sys.stderr)


class RunDisplay:
    """Shows one run.

    Args:
        kind: Name of the data in the recipe.
        quiet: Show nothing.
    """

    def __init__(self, kind: str = "", *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._reading = ReadingText(kind)
        self._live: Any = None
        self._printed_at = 0.0
        self._first: float | None = None  # epochs done when we began to watch: a resumed run has a head start
        self._began = time.monotonic()
        self._text = ""

    @contextmanager
    def watching(self) -> Iterator[RunDisplay]:
        """Keeps the display up for the time of the block."""
        if not self.quiet and _is_live():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars
            from rich.table import Column

            columns = (
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(20),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            )
            with Bars(*columns, console=Console(stderr=True), expand=True) as self._live:
                self._task = self._live.add_task("", total=1.0, epoch="", left="", text="")
                yield self
        else:
            yield self
        self._live = None

    def __call__(self, progress: Progress) -> None:
        """Takes what the loop reports."""
        done = progress.epoch + progress.batch / max(progress.batches, 1)
        if self._first is None:
            self._first, self._began = done, time.monotonic()
        left = self._time_left(done, progress.epochs) if done < progress.epochs else "done"
        self._text = _epoch_text(progress.line) or self._text
        if self._live is not None:
            epoch = f"{min(progress.epoch + 1, progress.epochs)}/{progress.epochs}"
            share = done / progress.epochs
            self._live.update(self._task, completed=share, epoch=epoch, left=left, text=self._text)
        elif not self.quiet and progress.line is not None:
            now = time.monotonic()
            if now - self._printed_at > _PLAIN_LINE_SECONDS or progress.epoch == progress.epochs:
                self._printed_at = now
                print(f"epoch {progress.epoch}/{progress.epochs}: {self._text}; {left}", file=sys.stderr, flush=True)

    def reading(self, done: int, total: int) -> None:
        """Takes how far the reading of the data is, before the first epoch."""
        self._before_training(self._reading(done, total), done / max(total, 1))

    def asking(self, done: int, total: int) -> None:
        """Takes how far it is that the teacher is asked about the training rows, before the first epoch."""
        share = done / max(total, 1)
        self._before_training(f"asking the teacher: {done:,} of {total:,} rows ({share:.0%})", share)

    def _before_training(self, text: str, share: float) -> None:
        if self._live is not None:
            self._live.update(self._task, completed=share, text=text)
        elif not self.quiet and time.monotonic() - self._began > _READING_LINE_SECONDS:
            self._began = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def _time_left(self, done: float, epochs: int) -> str:
        made = done - (self._first or 0.0)
        if made <= 0:
            return "..."
        return f"{duration((time.monotonic() - self._began) / made * (epochs - done))} left"


class ComparisonDisplay:
    """Shows the runs of a comparison: one bar for all, and the runs in progress.

    Args:
        total: Number of runs.
        reused: How many of them were finished before.
        epochs: Of each run; of {steps: ...} the runs themselves tell.
        quiet: Show nothing.
    """

    def __init__(self, *, total: int, reused: int, epochs: int | dict[str, int], quiet: bool = False) -> None:
        self.total, self.done, self.quiet = total, reused, quiet
        self.epochs = epochs if isinstance(epochs, int) else 1
        self._began = time.monotonic()
        self._first: dict[str, float] = {}
        self._now: dict[str, float] = {}
        self._made = 0.0
        self._live: Any = None
        self._tasks: dict[str, Any] = {}
        self._texts: dict[str, str] = {}

    @contextmanager
    def watching(self) -> Iterator[ComparisonDisplay]:
        """Keeps the display up for the time of the block."""
        if not self.quiet and _is_live():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bars
            from rich.table import Column

            # What is too long for the terminal is cut at its end: a table of many runs must not grow at every epoch.
            text = TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
            columns = (TextColumn("{task.description}"), BarColumn(20), text)
            with Bars(*columns, console=Console(stderr=True), expand=True) as self._live:
                self._all = self._live.add_task(self._heading(), total=self.total, completed=self.done, text="starting")
                yield self
        else:
            yield self
        self._live = None

    def _heading(self) -> str:
        return f"{self.done} of {self.total} runs"

    def __call__(self, event: Event) -> None:
        """Takes what the workers report."""
        name = event.job.name
        if event.kind == "progress" and event.progress is not None:
            progress = event.progress
            self.epochs = progress.epochs
            at = progress.epoch + progress.batch / max(progress.batches, 1)
            self._first.setdefault(name, at)
            self._now[name] = at
            if self._live is not None:
                self._show(name, at, progress)
            return
        self.done += 1
        self._made += self.epochs - self._first.pop(name, 0.0)
        self._now.pop(name, None)
        if self._live is not None:
            if name in self._tasks:
                self._live.remove_task(self._tasks.pop(name))
            self._live.update(self._all, completed=self.done, description=self._heading(), text=self._left())
        if event.kind == "failed":
            self._say(f"[{self.done}/{self.total}] {name}: FAILED: {event.message.splitlines()[0]}")
        elif self._live is None:
            result = event.result or {}
            text = measures_text(result)
            self._say(f"[{self.done}/{self.total}] {name}: {text} ({duration(result['seconds'])}); {self._left()}")

    def _show(self, name: str, at: float, progress: Progress) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(f"  {name}", total=self.epochs, text="")
        self._texts[name] = _epoch_text(progress.line) or self._texts.get(name, "")
        text = f"epoch {min(progress.epoch + 1, progress.epochs)}/{progress.epochs} {self._texts[name]}"
        self._live.update(self._tasks[name], completed=at, text=text)
        self._live.update(self._all, completed=self.done + sum(self._now.values()) / self.epochs, text=self._left())

    def _left(self) -> str:
        """Returns the time left from the epochs made since we began and those still to make."""
        if self.done == self.total:
            return "done"
        under_way = sum(at - self._first[name] for name, at in self._now.items())
        made = self._made + under_way
        if made <= 0:
            return "starting"
        to_make = (self.total - self.done) * self.epochs - sum(self._now.values())
        return f"about {duration((time.monotonic() - self._began) / made * to_make)} left"

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)
