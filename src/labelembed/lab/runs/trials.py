"""The trials of one variant: an optuna study in SQLite, whose runs are ordinary run folders.

What is proposed follows from the recipe's seed, the number of the trial and the scores of earlier rounds alone: neither
the number of runs at once changes it, nor a stop.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import InterruptedTraining, RunFolderError
from labelembed.lab.runs.recipe_diff import listed
from labelembed.lab.runs.run import run_job
from labelembed.lab.runs.search_spaces import Space, arguments_at
from labelembed.lab.training.progress import Progress
from labelembed.lab.training.run_folder import RunFolder
from labelembed.seeds import derived_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

STUDIES = "optuna.db"
# Trials of a variant that are proposed together: a few at once keep several cores at work. Those of the first round are
# the recipe as it stands and points drawn at random.
ROUND = 4
Metric = Literal["error", "nll", "bleu"]


def require_optuna() -> None:
    """Raises LabelEmbedError where optuna is not installed; silences it where it is."""
    try:
        import optuna
    except ImportError as error:
        how = "pip install 'labelembed[lab]'"
        raise LabelEmbedError(f"tuning needs the package optuna: {how} ({error})") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextlib.contextmanager
def studies_in(folder: Path) -> Iterator[RDBStorage]:
    """Opens the studies of a tuning.

    Raises:
        RunFolderError: The file is damaged, or cannot be read or written.
    """
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = RDBStorage(f"sqlite:///{folder / STUDIES}")
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        way = "where it is damaged take it away: finished runs below trials/ are used again"
        raise RunFolderError(f"{folder / STUDIES}: cannot be read or written ({reason}); {way}") from error


def refuse_other_study(storage: RDBStorage, folder: Path, name: str, asked: dict[str, Any]) -> None:
    """Raises RunFolderError, with the differences, where the study of a variant is there and of something else.

    Args:
        storage: See `studies_in`.
        folder: Of the tuning.
        name: Of the study.
        asked: What its trials are of, as flat JSON values.
    """
    import optuna

    if name not in [study.study_name for study in storage.get_all_studies()]:
        return
    here = optuna.load_study(storage=storage, study_name=name).user_attrs.get("asked", asked)
    found = {
        key: (here.get(key, "not tuned"), asked.get(key, "not tuned"))
        for key in sorted(here.keys() | asked.keys())
        if here.get(key) != asked.get(key)
    }
    if found:
        raise RunFolderError(f"{folder}: holds another tuning of {name}; choose another --out. {listed(found)}")


class Trials:
    """The trials of one variant.

    Args:
        storage: See `studies_in`.
        name: Of the study.
        space: What is tuned.
        objective: The objective's name.
        metric: What is chosen by.
        asked: See `refuse_other_study`.
    """

    def __init__(
        self, storage: RDBStorage, name: str, space: Space, *, objective: str, metric: Metric, asked: dict[str, Any]
    ) -> None:
        import optuna

        self.space, self.objective = space, objective
        self.study = optuna.create_study(
            storage=storage, study_name=name, direction=direction(metric), load_if_exists=True
        )
        self.study.set_user_attr("asked", asked)

    def all(self) -> list[FrozenTrial]:
        """Returns the trials, those apart that a kill came into while they were proposed."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if "arguments" in trial.user_attrs]

    def propose(self, end: int, *, seed: int, first: dict[str, Any]) -> None:
        """Adds trials until there are so many.

        Args:
            end: How many.
            seed: Of the recipe.
            first: The draws that stand for the recipe as it is, which is the first trial; see `search_spaces.draws_of`.
        """
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState, create_trial

        for torn in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "arguments" not in torn.user_attrs:
                self.study.tell(torn.number, state=TrialState.FAIL)
        for number in range(len(self.all()), end):
            if number == 0:
                as_it_is = create_trial(
                    state=TrialState.RUNNING,
                    params=first,
                    distributions={key: self.space[key] for key in first},
                    user_attrs={"arguments": {}},
                )
                self.study.add_trial(as_it_is)
                continue
            # A sampler of its own for each trial: after a stop it draws what it would have drawn.
            own_seed = derived_seed(seed, "tuning", self.study.study_name, number) % 2**32
            self.study.sampler = TPESampler(seed=own_seed, n_startup_trials=ROUND)
            trial = self.study.ask(self.space)
            trial.set_user_attr("arguments", arguments_at(self.space, trial.params, self.objective))

    def settle(self, trial: FrozenTrial, runs: list[RunFolder], metric: Metric, *, pruned: bool) -> None:
        """Tells how an open trial ended, unless its runs could not be made: their mean score, or that it has none."""
        from optuna.trial import TrialState

        states = {folder.state() for folder in runs}
        if pruned or "failed" in states:
            self.study.tell(trial.number, state=TrialState.PRUNED)  # the worst to the sampler, which forgets FAIL
        elif states == {"finished"}:
            self.study.tell(trial.number, fmean(score_of(folder, metric) for folder in runs))


def direction(metric: Metric) -> str:
    """Returns which way a metric is better, in optuna's words."""
    return "maximize" if metric == "bleu" else "minimize"


def score_of(folder: RunFolder, metric: Metric) -> float:
    """Returns the validation metric of a finished run.

    Raises:
        RunFolderError: The run has none.
    """
    score = _score(folder.result(), metric)
    if score is None:
        raise RunFolderError(f"{folder.path / 'result.json'}: damaged, it has no finite validation {metric}")
    return score


def _score(measured: dict[str, Any], metric: Metric) -> float | None:
    validation = measured.get("validation")
    value = validation.get(metric) if isinstance(validation, dict) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def curve_of(folder: RunFolder, metric: Metric) -> dict[int, float]:
    """Returns the validation metric of a run by epoch, of those that have one."""
    scores = ((int(line["epoch"]), _score(line, metric)) for line in folder.history())
    return {epoch: score for epoch, score in scores if score is not None}


def run_trial(payload: dict[str, Any], observe: Callable[[Progress], None], stop: Callable[[], bool]) -> dict[str, Any]:
    """Makes one run of a trial in a worker process, which may be pruned; see `runs.jobs`.

    Nobody is to choose by the test set, not even by watching: what is told of a run has none.

    Args:
        payload: What `run.run_job` gets, with `metric`, `epochs`, and `curves` of the trials before; none: no pruning.
        observe: Called with where the run stands.
        stop: Tells whether it should save where it stands and stop.
    """
    folder = RunFolder(payload["folder"])
    pruned = _is_behind(folder, payload)  # of a run that goes on

    def watch(progress: Progress) -> None:
        nonlocal pruned
        line = progress.line
        observe(progress if line is None else progress._replace(line=line | {"test": None}))
        pruned = pruned or (line is not None and _is_behind(folder, payload))

    if not pruned:
        try:
            return run_job(payload, watch, lambda: pruned or stop()) | {"test": None}
        except InterruptedTraining:
            if not pruned:
                raise
    history = folder.history()
    seconds = sum(float(line.get("seconds") or 0.0) for line in history)
    return {"pruned": True, "seconds": seconds, "validation": history[-1].get("validation"), "test": None}


def _is_behind(folder: RunFolder, payload: dict[str, Any]) -> bool:
    """Tells whether a run is worse than the median of the trials before it (Golovin et al. 2017)."""
    own = curve_of(folder, payload["metric"]) if payload["curves"] else {}
    if not own or max(own) >= payload["epochs"]:  # after the last epoch there is nothing left to save
        return False
    require_optuna()
    from optuna import create_study
    from optuna.pruners import MedianPruner
    from optuna.trial import TrialState, create_trial

    study = create_study(direction=direction(payload["metric"]))
    study.add_trials(create_trial(value=0.0, intermediate_values=curve) for curve in payload["curves"])
    # Some objectives begin slowly.
    pruner = MedianPruner(n_startup_trials=ROUND, n_warmup_steps=math.ceil(payload["epochs"] / 4))
    return bool(pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=own)))
