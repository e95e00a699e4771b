"""Progress with the time left on standard error: bars on a terminal or in a notebook, elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html import escape
from pathlib import Path
from typing import Any

from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.device import process_index
from labelembed.lab.training.reporter import Progress, Reporter
from labelembed.lab.training.run_folder import RunFolder

_STARTING = "starting"
# Elsewhere than on a terminal there is a line at least so often, and at the end of an epoch, but not more often than:
_LINE_SECONDS, _EPOCH_SECONDS = 10.0, 1.0


def say(text: str) -> None:
    """Prints a line to standard error, of several processes of one run once."""
    if process_index() == 0:
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


def epoch_text(line: dict[str, Any] | None) -> str:
    """Returns the errors of an epoch and the terms of its loss."""
    terms = (line or {}).get("train") or {}
    # Of a loss of one term the total says it all, and a term that is 0 is mostly one that is not asked for.
    shown = [name for name in terms if terms[name]] if len(terms) > 2 else list(terms)[:1]
    return "; ".join(filter(None, (metrics_text(line), ", ".join(f"{name} {terms[name]:.3g}" for name in shown))))


class TimeLeft:
    """How long the rest of some work takes, by what was done since the first call."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, done: float, total: float) -> str:
        """Returns ``about 3 min 20 s left``, `starting` before there is anything to go by, and `done` at the end."""
        now = time.monotonic()
        self._first = self._first or (done, now)
        made, seconds = done - self._first[0], now - self._first[1]
        if done >= total:
            return "done"
        return f"about {duration(seconds / made * (total - done))} left" if made > 0 else _STARTING


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class Shown:
    """Where progress goes: bars, a cell of a notebook, or lines.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._cell: Any = None
        self._line, self._at = _STARTING, time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[Shown]:
        """Keeps the bars up for the time of the block; where there are none, repeats the line when nothing happens."""
        if self.quiet or _is_notebook():
            yield self
        elif sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
            from rich.table import Column

            # What is too long for the terminal is cut at its end: a table of many runs must not grow at every epoch.
            text = TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
            columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn(), text)
            with Progress(*columns, console=Console(stderr=True), expand=True) as self._bars:
                yield self
            self._bars = None
        else:
            over = threading.Event()
            lines = threading.Thread(target=self._repeat, args=(over,), daemon=True)
            lines.start()
            try:
                yield self
            finally:
                over.set()
                lines.join()

    def show(self, heading: str, share: float, text: str, *, name: str = "", line: str = "", every: float = 10) -> None:
        """Shows how far something is.

        Args:
            heading: Stands before the bar.
            share: Of it that is done, 0 to 1.
            text: Stands behind the bar.
            name: Of the bar; the empty one is the whole.
            line: What to print where there are no bars.
            every: Seconds after the line before at which it is printed.
        """
        if self.quiet:
            return
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(heading, total=1.0, text=text)
            self._bars.update(self._tasks[name], completed=share, description=heading, text=text)
        elif _is_notebook():
            if not name:
                self._show_cell(f"{heading} <progress value='{share:.4f}' max='1'></progress> {escape(text)}", share)
        elif line:
            self._line = line
            if time.monotonic() - self._at >= every:
                self._print(line)

    @property
    def has_bars(self) -> bool:
        """Whether what goes on is seen without lines."""
        return self._bars is not None or _is_notebook()

    def say(self, line: str) -> None:
        """Prints a line that stays, above the bars."""
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        elif not self.quiet:
            self._print(line)

    def remove(self, name: str) -> None:
        """Takes a bar away."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))

    def _show_cell(self, markup: str, share: float) -> None:
        from IPython.display import HTML, display

        if self._cell is None:
            self._cell = display(HTML(markup), display_id=True)
        elif time.monotonic() - self._at > 0.2 or share >= 1:
            self._cell.update(HTML(markup))
            self._at = time.monotonic()

    def _print(self, line: str) -> None:
        self._at = time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def _repeat(self, over: threading.Event) -> None:
        while not over.wait(_EPOCH_SECONDS):
            if time.monotonic() - self._at >= _LINE_SECONDS:
                self._print(self._line)


class RunDisplay(Reporter):
    """Shows one run, and the reading of data before it.

    Args:
        data: Name of the data in the recipe.
        quiet: Show nothing but warnings.
    """

    def __init__(self, data: str = "", *, quiet: bool = False) -> None:
        self.shown = Shown(quiet=quiet or process_index() > 0)
        self._reading = "texts through the encoder" if data == "texts" else "pictures"
        self._left, self._reading_left, self._text = TimeLeft(), TimeLeft(), ""

    @contextmanager
    def watching(self) -> Iterator[RunDisplay]:
        """Keeps the display up for the time of the block."""
        with self.shown.watching():
            yield self

    def note(self, text: str) -> None:
        """Shows what goes on before the first epoch."""
        self.shown.show("", 0.0, text, line=text)

    def warn(self, text: str) -> None:
        """Prints what the user should know."""
        say(text)

    def progress(self, progress: Progress) -> None:
        """Shows what the loop reports."""
        done = progress.epoch + progress.batch / max(progress.batches, 1)
        left = self._left(done, progress.epochs)
        self._text = epoch_text(progress.line) or self._text
        if progress.line is None:
            heading = f"epoch {min(progress.epoch + 1, progress.epochs)}/{progress.epochs}"
            line, every = f"{heading}, step {progress.batch} of {progress.batches}; {left}", _LINE_SECONDS
        else:
            heading, every = f"epoch {progress.epoch}/{progress.epochs}", 0.0 if left == "done" else _EPOCH_SECONDS
            line = f"{heading}: {self._text}; {left}"
        self.shown.show(heading, done / progress.epochs, f"{left}  {self._text}".strip(), line=line, every=every)
        if left == "done":
            self.note("measuring with the weights of the selected epoch")

    def reading(self, done: int, total: int) -> None:
        """Shows how far the reading of the data is."""
        text = f"{self._reading}: {done:,} of {total:,}; {self._reading_left(done, total)}"
        self.shown.show("", done / max(total, 1), text, line=text)


class RunsDisplay:
    """Shows runs that are made in other processes, by what their folders say.

    Args:
        total: How many there are.
        reused: How many of them were finished before.
        quiet: Show nothing.
        hide_test: Show no metric of the test set: nobody is to choose by it, not even by watching.
    """

    def __init__(self, *, total: int, reused: int, quiet: bool = False, hide_test: bool = False) -> None:
        self.shown = Shown(quiet=quiet)
        self._total, self._done, self._to_make, self._hide_test = total, reused, total - reused, hide_test
        self._under_way: dict[str, RunFolder] = {}
        self._made: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._epochs, self._left = 1, TimeLeft()

    def add(self, name: str, folder: Path, epochs: int) -> None:
        """Takes a run that is to be made."""
        self._under_way[name], self._epochs = RunFolder(folder), epochs

    def update(self) -> None:
        """Looks how far the runs are."""
        for name, folder in self._under_way.items():
            file = folder.path / "history.jsonl"
            size = file.stat().st_size if file.exists() else 0
            if size == self._sizes.get(name, 0):
                continue
            self._sizes[name] = size
            with suppress(RunFolderError, OSError):  # the run itself says what is wrong with its folder
                history = folder.history()
                self._made[name] = float(len(history))
                epoch = f"epoch {len(history)}/{self._epochs}"
                text = f"{epoch} {epoch_text(self._visible(history[-1]))}" if history else ""
                line = f"[{self._done}/{self._total}] {name}: {epoch}; {self._time_left()}"
                self.shown.show(f"  {name}", len(history) / self._epochs, text, name=name, line=line)
        self._show_all()

    def ended(self, name: str, error: str, result: dict[str, Any]) -> None:
        """Shows how a run ended; `error` is empty where it finished."""
        self._done += 1
        self._made[name] = float(self._epochs)
        self._under_way.pop(name, None)
        self.shown.remove(name)
        left, head = self._time_left(), f"[{self._done}/{self._total}] {name}: "
        if error:
            self.shown.say(f"{head}FAILED: {error.splitlines()[0]}")
        elif not self.shown.has_bars:
            seconds = duration(float(result.get("seconds") or 0))
            self.shown.say(f"{head}{metrics_text(self._visible(result))} ({seconds}); {left}")
        self._show_all()

    def _visible(self, line: dict[str, Any]) -> dict[str, Any]:
        return line | {"test": None} if self._hide_test else line

    def _show_all(self) -> None:
        share = (self._total - self._to_make + sum(self._made.values()) / self._epochs) / max(self._total, 1)
        self.shown.show(f"{self._done} of {self._total} runs", share, self._time_left())

    def _time_left(self) -> str:
        return self._left(sum(self._made.values()), self._epochs * self._to_make)
