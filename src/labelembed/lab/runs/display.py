"""Progress with the time left on standard error: bars on a terminal (rich), elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Self

from labelembed.lab.training.device import process_index
from labelembed.lab.training.reporter import Progress, Reporter

# Elsewhere than on a terminal there is a line at least so often, and at the end of an epoch, but not more often than:
_LINE_SECONDS, _EPOCH_SECONDS = 10.0, 1.0


def say(text: str) -> None:
    """Prints a line to standard error, of several processes of one run once."""
    if process_index() == 0:
        with suppress(OSError):  # a full disk, on which the run itself says so
            print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Returns a time as people say it: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def metrics_text(line: dict[str, Any] | None) -> str:
    """Returns the errors of an epoch or a result, of sentences BLEU: ``validation error 2.50%, test error 3.10%``."""
    parts = []
    for name in ("validation", "test"):
        if metrics := (line or {}).get(name):
            error = f"error {metrics['error']:.2%}"
            parts.append(f"{name} " + (f"BLEU {100 * metrics['bleu']:.2f}" if "bleu" in metrics else error))
    return ", ".join(parts)


class Shown:
    """Where progress goes: a bar, or lines; nowhere with `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self.has_bar = not quiet and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        # What is too long for the terminal is cut at its end.
        cut = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        text = TextColumn("{task.fields[text]}", markup=False, table_column=cut)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(20), TimeRemainingColumn(), text)
        rate: Any = {"speed_estimate_period": 1e9, "get_time": time.monotonic}  # of all the time since the beginning
        self._progress: Any = Progress(*columns, console=Console(stderr=True), expand=True, **rate)
        self._quiet, self._at = quiet, time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Keeps the bar up for the time of the block."""
        with self._progress if self.has_bar else nullcontext():
            yield self

    def show(self, heading: str, share: float, text: str = "", *, every: float = _LINE_SECONDS) -> None:
        """Shows a heading, how much is done (0 to 1) and a text.

        Without a bar that is a line with the time left, once so many seconds have passed since the line before.
        """
        tasks = self._progress.tasks
        if tasks and share < tasks[0].completed:  # something else begins
            self._progress.remove_task(tasks[0].id)
        if not self._progress.tasks:
            self._progress.add_task(heading, total=1.0, completed=share, text=text)
        self._progress.update(self._progress.task_ids[0], completed=share, description=heading, text=text)
        if not self.has_bar and time.monotonic() - self._at >= every:
            self.say(": ".join(filter(None, [heading, text])))

    def say(self, line: str) -> None:
        """Prints a line that stays, above the bar; without one with the time left."""
        self._at = time.monotonic()
        if self.has_bar:
            self._progress.console.print(line, markup=False, highlight=False)
        elif not self._quiet:
            seconds = next((task.time_remaining for task in self._progress.tasks), None)
            say(f"{line}; about {duration(seconds)} left" if seconds else line)


class RunDisplay(Shown, Reporter):
    """Shows one run, and the reading of data before it."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet or process_index() > 0)
        self._text = ""

    def note(self, text: str) -> None:
        """Shows the current activity, such as the teacher's predictions."""
        self.show("", 0.0, text)

    def warn(self, text: str) -> None:
        """Prints a warning."""
        say(text)

    def progress(self, progress: Progress) -> None:
        """Shows epoch, metrics and time left."""
        epochs, done = progress.epochs, progress.epoch + progress.batch / max(progress.batches, 1)
        if progress.line is not None:
            terms = progress.line.get("train") or {}  # the total; with several terms those that are not 0
            shown = [name for name in terms if terms[name]] if len(terms) > 2 else list(terms)[:1]
            loss = ", ".join(f"{name} {terms[name]:.3g}" for name in shown)
            self._text = "; ".join(filter(None, (metrics_text(progress.line), loss)))
            every = 0.0 if progress.epoch == epochs else _EPOCH_SECONDS
            self.show(f"epoch {progress.epoch}/{epochs}", done / epochs, self._text, every=every)
        else:
            text = self._text if self.has_bar else f"step {progress.batch} of {progress.batches}"
            self.show(f"epoch {min(progress.epoch + 1, epochs)}/{epochs}", done / epochs, text)

    def reading(self, done: int, total: int) -> None:
        """Shows how far the reading of the data is."""
        self.show("reading", done / max(total, 1), f"{done:,} of {total:,}")
