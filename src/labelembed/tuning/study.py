"""The trials of a tuning in optuna's own journal file, and what is tried next.

What is tried next depends on nothing but the seed, the number of the trial and the scores of the rounds before it:
neither on how many runs are made at once, nor on whether the tuning was stopped in between.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from labelembed.errors import LabelEmbedError, RunFolderError
from labelembed.seeds import derived_seed
from labelembed.tuning.search_spaces import Choices, Dimension, Simplex
from labelembed.tuning.space import parameter_names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

State = Literal["open", "finished", "pruned", "failed"]
JOURNAL = "optuna.journal"
# The first trial is the objective as it was asked for; the others of the first round are spread over the space.
FIRST_ROUND = 5
# Trials of the later rounds, which are proposed together: a few at once keep several cores at work.
ROUND = 3
# Seconds after which a lock is broken that a killed process has left.
_LOCK_SECONDS = 5
_INSTALL = "pip install 'labelembed[tune]'"


@dataclass(frozen=True)
class Trial:
    """One trial as the journal has it.

    Args:
        number: From 0.
        parameters: The sampler's, see `space.arguments_at`; the first trial has those that it happens to have.
        arguments: The values by key of the recipe; none: the objective as it was asked for.
        state: How far it is.
        score: The mean validation score of its runs; None where it has none.
    """

    number: int
    parameters: dict[str, Any]
    arguments: dict[str, Any]
    state: State
    score: float | None = None


def rounds(trials: int) -> Iterator[tuple[int, int]]:
    """Yields the first number and the end of each round."""
    begin = 0
    while begin < trials:
        end = min(begin + (ROUND if begin else FIRST_ROUND), trials)
        yield begin, end
        begin = end


def require_optuna() -> Any:
    """Returns optuna, silenced.

    Raises:
        LabelEmbedError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise LabelEmbedError(f"tuning needs the package optuna: {_INSTALL} ({error})") from error
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


class TrialStore:
    """The journal file of a tuning: one study for each variant.

    Args:
        path: The file; it need not exist yet. Optuna reads it as JSON lines; nothing in it is unpickled.

    Raises:
        RunFolderError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        require_optuna()
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

        self.path = path
        _cut_torn_line(path)
        with self._reading():
            lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
            self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
            self._names = {study.study_name for study in self._storage.get_all_studies()}

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except RunFolderError:
            raise
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be read or written ({error.strerror or error})") from error
        except Exception as error:  # whatever a damaged journal makes optuna raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            way = "take the file away: finished runs below trials/ are used again"
            raise RunFolderError(f"{self.path}: damaged, cannot be read ({reason}); {way}") from error

    def refuse_other(self, name: str, asked: Mapping[str, Any]) -> None:
        """Raises RunFolderError, with the differences, where the study of a variant is there and of something else.

        Args:
            name: Of the variant's folder.
            asked: What the trials are of, as flat JSON values.
        """
        import optuna

        if name not in self._names:
            return
        with self._reading():
            present = optuna.load_study(storage=self._storage, study_name=name).user_attrs.get("asked", {})
            keys = sorted(key for key in {*asked, *present} if asked.get(key) != present.get(key))
        if not keys:
            return
        lines = [f"{key}: here {_told(key, present)}, asked for {_told(key, asked)}" for key in keys[:5]]
        lines += [f"and {len(keys) - 5} more"] if len(keys) > 5 else []
        way = "choose another --out"
        if all(key in asked and key not in present and key.startswith("space optimizer.") for key in keys):
            way += ", or go on with the objective's own arguments only by --space objective"
        heading = f"{self.path.parent}: holds another tuning of {name}; {way}. It differs in"
        raise RunFolderError("\n  ".join([heading, *lines]))

    def study(self, name: str, asked: Mapping[str, Any], *, maximise: bool) -> Study:
        """Returns the study of a variant, made where there is none.

        Args:
            name: Of the variant's folder.
            asked: What the trials are of, as flat JSON values.
            maximise: Whether more is better.

        Raises:
            RunFolderError: The study that is there is of something else; the differences are said.
        """
        import optuna

        self.refuse_other(name, asked)
        with self._reading():
            if name in self._names:
                return optuna.load_study(storage=self._storage, study_name=name)
            direction = "maximize" if maximise else "minimize"
            study = optuna.create_study(storage=self._storage, study_name=name, direction=direction)
            study.set_user_attr("asked", dict(asked))
            self._names.add(name)
            return study

    def trials(self, study: Study) -> list[Trial]:
        """Returns a study's trials.

        Raises:
            RunFolderError: One of them is damaged.
        """
        states: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        with self._reading():
            return [
                Trial(
                    trial.number,
                    dict(trial.params),
                    dict(trial.user_attrs["arguments"]),
                    states.get(trial.state.name, "open"),
                    trial.value if trial.state.name == "COMPLETE" else None,
                )
                for trial in study.get_trials(deepcopy=False)
            ]

    def add(
        self, study: Study, space: Mapping[str, Dimension], parameters: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> None:
        """Adds an open trial."""
        from optuna.trial import TrialState, create_trial

        kinds = distributions(space)
        known = {name: value for name, value in parameters.items() if name in kinds}
        with self._reading():
            study.add_trial(
                create_trial(
                    state=TrialState.RUNNING,
                    params=known,
                    distributions={name: kinds[name] for name in known},
                    user_attrs={"arguments": dict(arguments)},
                )
            )

    def settle(self, study: Study, number: int, state: State, score: float | None) -> None:
        """Notes how a trial ended."""
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        with self._reading():
            study.tell(number, score, state=states[state])


def _told(key: str, values: Mapping[str, Any]) -> str:
    return "not tuned" if key.startswith("space ") and key not in values else repr(values.get(key))


def _cut_torn_line(path: Path) -> None:
    """Takes away a last line that a kill cut short, to which optuna would add the next."""
    if not path.is_file():
        return
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read or written ({error.strerror})") from error


def distributions(space: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """Returns optuna's words for a space, by parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, dimension in space.items():
        for name in parameter_names(key, dimension):
            if isinstance(dimension, Simplex):
                found[name] = FloatDistribution(0.0, 1.0)
            elif isinstance(dimension, Choices):
                found[name] = CategoricalDistribution(dimension.values)
            elif dimension.whole:
                found[name] = IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
            else:
                found[name] = FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return found


def proposal(
    space: Mapping[str, Dimension], before: Sequence[Trial], number: int, *, seed: int, name: str, maximise: bool
) -> dict[str, Any]:
    """Returns the parameters of a trial.

    In the first round they are spread over the space (a Latin hypercube); later a tree-structured Parzen estimator
    (Bergstra et al. 2011) proposes them, for which failed and given-up trials are the worst.

    Args:
        space: What is tuned.
        before: The trials of earlier rounds, all settled.
        number: Of the trial, from 1.
        seed: Of the tuning.
        name: Of the variant, so that each draws its own.
        maximise: Whether more is better.
    """
    if number < FIRST_ROUND:
        return _spread(space, number - 1, seed=derived_seed(seed, "tuning", name))
    import optuna
    from optuna.trial import create_trial

    worst = -math.inf if maximise else math.inf
    kinds = distributions(space)
    # Without trials of its own to warn about, and with none still running, nothing else goes into what it proposes.
    sampler = optuna.samplers.TPESampler(
        seed=derived_seed(seed, "tuning", name, number) % 2**32, n_startup_trials=0, constant_liar=False
    )
    study = optuna.create_study(sampler=sampler, direction="maximize" if maximise else "minimize")
    for trial in before:
        known = {key: value for key, value in trial.parameters.items() if key in kinds}
        of_these = {key: kinds[key] for key in known}
        score = worst if trial.score is None else trial.score
        study.add_trial(create_trial(params=known, distributions=of_these, value=score))
    return dict(study.ask(fixed_distributions=kinds).params)


def _spread(space: Mapping[str, Dimension], place: int, *, seed: int) -> dict[str, Any]:
    """Returns one of the points of the first round: in each dimension they stand in different parts of it."""
    points = FIRST_ROUND - 1
    random = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for key, dimension in space.items():
        for name in parameter_names(key, dimension):
            shares = (random.permutation(points) + random.random(points)) / points
            share = float(shares[place])
            found[name] = share if isinstance(dimension, Simplex) else dimension.at(share)
    return found
