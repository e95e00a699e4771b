"""The journal as TensorBoard shows it: written from its lines, so that both always say the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.errors import LabelEmbedError
from labelembed.training.files import saving
from labelembed.training.progress import Progress
from labelembed.training.run_folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_FOLDER = "tensorboard"
_EVENT_FILES = "events.out.tfevents.*"


def require_tensorboard() -> type[SummaryWriter]:
    """Returns torch's writer of TensorBoard's files.

    Raises:
        LabelEmbedError: When tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise LabelEmbedError(
            f"--tensorboard needs the package tensorboard, which cannot be imported ({error}): "
            "pip install 'labelembed[track]', or leave the option out"
        ) from error
    return SummaryWriter


@contextlib.contextmanager
def journal_logged(
    folder: RunFolder, observe: Callable[[Progress], None], *, asked: bool, warn: Callable[[str], None]
) -> Iterator[Callable[[Progress], None]]:
    """Gives what is to watch a run: `observe`, and before it the log, where one is wanted.

    The log begins anew with what the journal has: of a resumed run no epoch is missing or there twice, wherever it was
    killed.

    Args:
        folder: Whose journal it is, cut to where the run goes on.
        observe: Called in any case.
        asked: Whether a log was asked for; a run that has one already goes on with it unasked.
        warn: Called when one that was not asked for cannot be written.

    Raises:
        LabelEmbedError: When a log was asked for and tensorboard is not installed.
        TrainingError: When it cannot be written.
    """
    if not asked and not has_log(folder.path):
        yield observe
        return
    try:
        require_tensorboard()
    except LabelEmbedError:
        if asked:
            raise
        warn(f"{folder.path / LOG_FOLDER} stays as it is: tensorboard is not installed (extra track)")
        yield observe
        return
    with contextlib.closing(_JournalLog(folder)) as log:

        def watch(progress: Progress) -> None:
            if progress.line is not None:
                with saving(folder.path):
                    log.write(progress.line)
            observe(progress)

        with saving(folder.path):
            log.begin()
        yield watch


def log_journal(path: Path) -> None:
    """Writes the log of a run that has ended, where there is none yet.

    Raises:
        LabelEmbedError: When tensorboard is not installed.
        TrainingError: When it cannot be written.
        RunFolderError: When the journal is damaged.
    """
    if not has_log(path):
        with contextlib.closing(_JournalLog(RunFolder(path))) as log, saving(path):
            log.begin()


def has_log(path: Path) -> bool:
    """Tells whether a run folder has a log for TensorBoard."""
    return any((path / LOG_FOLDER).glob(_EVENT_FILES))


class _JournalLog:
    """TensorBoard's files of one run; the step of every number is its epoch."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None

    def begin(self) -> None:
        """Writes what the journal has; it takes the place of what an earlier start wrote."""
        place = self.folder.path / LOG_FOLDER
        lines = self.folder.journal()
        # With `purge_step` TensorBoard forgets what it read in older files. They stay: one that is watching while they
        # are removed would never come to the new one.
        self.writer = require_tensorboard()(str(place), purge_step=1)
        for line in lines:
            self._add(line)
        self.writer.flush()

    def write(self, line: dict[str, Any]) -> None:
        """Adds one epoch's line, to be seen at once."""
        self._add(line)
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self.writer is not None:
            self.writer.close()

    def _add(self, line: dict[str, Any]) -> None:
        for key, value in line.items():
            several = isinstance(value, dict)
            numbers = {f"{key}/{name}": part for name, part in value.items()} if several else {key: value}
            for tag, number in numbers.items():
                if self.writer is not None and tag != "epoch" and _is_number(number):
                    self.writer.add_scalar(tag, number, line["epoch"])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
