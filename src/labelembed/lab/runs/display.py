"""Progress with the time left on standard error: bars on a terminal or in a notebook, elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from labelembed.lab.runs.progress_text import STARTING, TimeLeft, duration, epoch_text, metrics_text

if TYPE_CHECKING:
    from labelembed.lab.runs.jobs import Event
    from labelembed.lab.training.progress import Progress

# Elsewhere than on a terminal there is a line at least so often, within long epochs and evaluations too.
_LINE_SECONDS = 10.0
# Before the first line, and between the lines at the end of epochs.
_SOON_SECONDS = 1.0
_NOTEBOOK_SECONDS = 0.2


def _is_live() -> bool:
    """Tells whether lines can be written over: not into a file or a pipe, nor on a terminal that only prints."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class Shown:
    """Where progress goes.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._cell: Any = None
        self._line, self._told, self._at = STARTING, False, time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[Shown]:
        """Keeps the bars up for the time of the block; where there are none, repeats the line when nothing happens."""
        if self.quiet or _is_notebook():
            yield self
        elif _is_live():
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

    def show(
        self, heading: str, share: float, text: str, *, name: str = "", line: str = "", every: float = _LINE_SECONDS
    ) -> None:
        """Shows how far something is.

        Args:
            heading: Stands before the bar.
            share: Of it that is done, 0 to 1.
            text: Stands behind the bar.
            name: Of the bar; the empty one is the whole.
            line: What to print where there are no bars.
            every: Seconds after the line before at which it is printed; the first line comes after one second.
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
            if text != STARTING:  # the first line is to say how long it takes
                self._print_if_due(every if self._told else min(every, _SOON_SECONDS))

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

    def wait_for(self, line: str) -> None:
        """Sets what is printed every ten seconds, where there are no bars, until there is more to show."""
        self._line = line

    def remove(self, name: str) -> None:
        """Takes a bar away."""
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))

    def _show_cell(self, markup: str, share: float) -> None:
        from IPython.display import HTML, display

        now = time.monotonic()
        if self._cell is None:
            self._cell = display(HTML(markup), display_id=True)
        elif now - self._at > _NOTEBOOK_SECONDS or share >= 1:
            self._cell.update(HTML(markup))
            self._at = now

    def _print_if_due(self, every: float) -> None:
        if time.monotonic() - self._at >= every:
            self._print(self._line)

    def _print(self, line: str) -> None:
        self._told, self._at = not line.endswith(STARTING), time.monotonic()
        print(line, file=sys.stderr, flush=True)

    def _repeat(self, over: threading.Event) -> None:
        while not over.wait(_SOON_SECONDS):
            self._print_if_due(_LINE_SECONDS)


class ReadingText:
    """Says how far the reading of data is that takes long.

    Args:
        kind: Name of the data in the recipe.
    """

    def __init__(self, kind: str) -> None:
        self._what = "texts through the encoder" if kind == "texts" else "pictures"
        self._left = TimeLeft()

    def __call__(self, done: int, total: int) -> str:
        """Returns how much is done, and how long the rest will take by what was done since the first call."""
        text, left = f"{self._what}: {done:,} of {total:,} ({done / max(total, 1):.0%})", self._left(done, total)
        if left != "done":
            return text if left == STARTING else f"{text}, {left}"
        from labelembed.lab.data.cache import cache_folder  # loaded by then; it would slow down `--help`

        return f"{text}, kept in {cache_folder()}"


@contextmanager
def reading_progress(kind: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Gives a callback that shows on standard error how far the reading of data is.

    Args:
        kind: Name of the data in the recipe.
        quiet: Show nothing.
    """
    text = ReadingText(kind)
    with Shown(quiet=quiet).watching() as shown:

        def show(done: int, total: int) -> None:
            said = text(done, total)
            shown.show("", done / max(total, 1), said, line=said)

        yield show


@contextmanager
def counting_progress(text: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Gives a callback that shows on standard error how many there are so far, as `reading_progress` does.

    Args:
        text: With one place for the number: ``"translated {:,} lines"``.
        quiet: Show nothing.
    """
    with Shown(quiet=quiet).watching() as shown:
        yield lambda done: shown.show("", 0.0, text.format(done), line=text.format(done))


class RunDisplay:
    """Shows one run.

    Args:
        kind: Name of the data in the recipe.
        quiet: Show nothing.
    """

    def __init__(self, kind: str = "", *, quiet: bool = False) -> None:
        self.shown = Shown(quiet=quiet)
        self._reading = ReadingText(kind)
        self._left = TimeLeft()
        self._text = ""

    @contextmanager
    def watching(self) -> Iterator[RunDisplay]:
        """Keeps the display up for the time of the block."""
        with self.shown.watching():
            yield self

    def __call__(self, progress: Progress) -> None:
        """Takes what the loop reports."""
        done = progress.epoch + progress.batch / max(progress.batches, 1)
        left = self._left(done, progress.epochs)
        self._text = epoch_text(progress.line) or self._text
        if progress.line is None:
            heading = f"epoch {min(progress.epoch + 1, progress.epochs)}/{progress.epochs}"
            line, every = f"{heading}, step {progress.batch} of {progress.batches}; {left}", _LINE_SECONDS
        else:
            heading, every = f"epoch {progress.epoch}/{progress.epochs}", 0.0 if left == "done" else _SOON_SECONDS
            line = f"{heading}: {self._text}; {left}"
        text = f"{left}  {self._text}".strip()
        self.shown.show(heading, done / progress.epochs, text, line=line, every=every)
        if left == "done":
            self.shown.wait_for("measuring with the weights of the selected epoch")

    def reading(self, done: int, total: int) -> None:
        """Takes how far the reading of the data is, before the first epoch."""
        self._before_training(self._reading(done, total), done / max(total, 1))

    def asking(self, done: int, total: int) -> None:
        """Takes how many of the teacher's predictions are done, before the first epoch."""
        share = done / max(total, 1)
        self._before_training(f"predictions of the teacher: {done:,} of {total:,} examples ({share:.0%})", share)

    def _before_training(self, text: str, share: float) -> None:
        self.shown.show("", share, text, line=text)


class ComparisonDisplay:
    """Shows the runs of a comparison: one bar for all, and the runs in progress.

    Args:
        total: Number of runs.
        reused: How many of them were finished before.
        epochs: Of each run; of {steps: ...} the runs themselves tell.
        half_done: By the name of the run, the epochs that it made before and goes on from.
        quiet: Show nothing.
    """

    def __init__(
        self,
        *,
        total: int,
        reused: int,
        epochs: int | dict[str, int],
        half_done: Mapping[str, float] | None = None,
        quiet: bool = False,
    ) -> None:
        self.total, self.done, self._to_make = total, reused, total - reused
        self.epochs = epochs if isinstance(epochs, int) else 1
        self.shown = Shown(quiet=quiet)
        self._left = TimeLeft()
        self._made: dict[str, float] = dict(half_done or {})
        self._texts: dict[str, str] = {}

    @contextmanager
    def watching(self) -> Iterator[ComparisonDisplay]:
        """Keeps the display up for the time of the block."""
        with self.shown.watching():
            self._show_all(STARTING)
            yield self

    def __call__(self, event: Event) -> None:
        """Takes what the workers report."""
        name = event.job.name
        if event.kind == "progress" and event.progress is not None:
            self._show_run(name, event.progress)
            return
        self.done += 1
        if event.kind == "failed":
            self._left.skip(self.epochs - self._made.get(name, 0.0))
        self._made[name] = self.epochs
        left = self._time_left()
        self.shown.remove(name)
        self._show_all(left)
        if event.kind == "failed":
            self.shown.say(f"[{self.done}/{self.total}] {name}: FAILED: {event.message.splitlines()[0]}")
        elif not self.shown.has_bars:
            result = event.result or {}
            text = f"{metrics_text(result)} ({duration(result['seconds'])}); {left}"
            self.shown.say(f"[{self.done}/{self.total}] {name}: {text}")

    def _show_run(self, name: str, progress: Progress) -> None:
        self.epochs = progress.epochs
        made = progress.epoch + progress.batch / max(progress.batches, 1)
        if name not in self._texts:  # what it goes on from took no time here
            self._left.skip(made - self._made.get(name, 0.0))
        self._made[name] = made
        self._texts[name] = epoch_text(progress.line) or self._texts.get(name, "")
        left, epoch = self._time_left(), f"epoch {min(progress.epoch + 1, progress.epochs)}/{progress.epochs}"
        line = f"[{self.done}/{self.total}] {name}: {epoch}; {left}"
        self.shown.show(f"  {name}", made / self.epochs, f"{epoch} {self._texts[name]}", name=name)
        self._show_all(left, line)

    def _show_all(self, left: str, line: str = "") -> None:
        whole = self.total - self._to_make + sum(self._made.values()) / self.epochs
        self.shown.show(f"{self.done} of {self.total} runs", whole / max(self.total, 1), left, line=line)

    def _time_left(self) -> str:
        return self._left(sum(self._made.values()), self._to_make * self.epochs)
