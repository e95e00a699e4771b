"""The runs of the trials, made as a comparison's are: in worker processes or on a cluster, finished ones reused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from labelembed.runs.comparison import visible_gpus
from labelembed.runs.recipe_diff import flat_recipe, refuse_other_recipe
from labelembed.runs.run import run_job
from labelembed.training.cluster import Cluster
from labelembed.training.files import make_writable_folder
from labelembed.training.jobs import Event, Job, run_jobs
from labelembed.training.progress import Progress
from labelembed.training.run_folder import RunFolder
from labelembed.training.run_lock import locked
from labelembed.training.worker_log import LOG_FILE, with_last_lines
from labelembed.tuning.planning import TunedVariant, TuningPlan
from labelembed.tuning.pruning import Watch, limits_of
from labelembed.tuning.results import Outcome, TrialRecord
from labelembed.tuning.scores import score_of
from labelembed.tuning.space import arguments_at, parameters_of
from labelembed.tuning.study import JOURNAL, State, Trial, TrialStore, proposal, rounds

if TYPE_CHECKING:
    from optuna.study import Study


@dataclass
class _Tuning:
    """One variant under way."""

    tuned: TunedVariant
    study: Study
    trials: list[Trial] = field(default_factory=list)


def run_tuning(
    plan: TuningPlan,
    *,
    fingerprint: str,
    jobs: int = 1,
    cluster: Cluster | None = None,
    device: str | None = None,
    observe: Callable[[Event], None] = lambda event: None,
    has_lock: bool = False,
) -> tuple[list[Outcome], dict[str, str]]:
    """Makes the trials that are not finished.

    Args:
        plan: What `plan_tuning` returned.
        fingerprint: Of the data, which must stay the same for all trials.
        jobs: Worker processes of this machine, of one thread and, where there are GPUs, one GPU each.
        cluster: Whose workers make the runs instead.
        device: `cpu`, or None for what there is.
        observe: Called with what happens to each run.
        has_lock: The caller has the folder's lock (`training.run_lock`); otherwise it is taken here.

    Returns:
        What came of each variant, in the plan's order, and why runs could not be made, by their name: such trials stay
        open, and the same call tries them again. A run that failed of itself, as one whose loss is not finite, is a
        trial without a score.

    Raises:
        RunFolderError: When another process makes the tuning, or the folder holds another one, or is damaged.
        InterruptedTraining: After a signal.
    """
    with nullcontext() if has_lock else locked(plan.out, doing="made"):
        return _tuned(plan, fingerprint, jobs=jobs, cluster=cluster, device=device, observe=observe)


def _tuned(
    plan: TuningPlan,
    fingerprint: str,
    *,
    jobs: int,
    cluster: Cluster | None,
    device: str | None,
    observe: Callable[[Event], None],
) -> tuple[list[Outcome], dict[str, str]]:
    make_writable_folder(plan.out)
    store = TrialStore(plan.out / JOURNAL)
    maximise = plan.measure == "bleu"
    asked = {tuned.variant.folder: _asked(plan, tuned, fingerprint) for tuned in plan.with_space}
    for name, what in asked.items():  # before any study is added beside those of another tuning
        store.refuse_other(name, what)
    under_way = [
        _Tuning(tuned, store.study(tuned.variant.folder, asked[tuned.variant.folder], maximise=maximise))
        for tuned in plan.with_space
    ]
    problems: dict[str, str] = {}
    for begin, end in rounds(plan.trials):
        todo: list[Job] = []
        for one in under_way:
            _propose(plan, store, one, begin, end)
            limits = limits_of(plan, one.tuned, one.trials[:begin])
            todo += _jobs(plan, one, begin, end, limits=limits, device=device, cluster=cluster)
        given_up = _made(todo, jobs, cluster, device, observe, problems)
        for one in under_way:
            _settle(plan, store, one, begin, end, given_up)
        if problems:  # what would come next depends on them
            break
    of_variant = {one.tuned.variant.name: one for one in under_way}
    return [_outcome(plan, tuned, of_variant.get(tuned.variant.name)) for tuned in plan.tuned], problems


def _asked(plan: TuningPlan, tuned: TunedVariant, fingerprint: str) -> dict[str, Any]:
    recipe = plan.recipe_of(tuned, {}, plan.seeds[0])
    flat = {key: value for key, value in flat_recipe(recipe.of_one_run()).items() if key != "seed"}
    space = {f"space {key}": str(dimension) for key, dimension in tuned.space.items()}
    how = {"seeds": plan.seeds, "seed": plan.recipe.seed, "pruning": plan.pruning, "measure": plan.measure}
    return flat | space | {f"tuning {key}": value for key, value in how.items()} | {"content of the data": fingerprint}


def _propose(plan: TuningPlan, store: TrialStore, one: _Tuning, begin: int, end: int) -> None:
    """Adds the trials of a round that the study does not have yet, and reads all there are."""
    one.trials = store.trials(one.study)
    space, before = one.tuned.space, one.trials[:begin]
    how: dict[str, Any] = {"seed": plan.recipe.seed, "name": one.tuned.variant.folder}
    for number in range(len(one.trials), end):
        if number == 0:
            parameters = parameters_of(space, plan.recipe_of(one.tuned, {}, plan.seeds[0]))
            store.add(one.study, space, parameters, {})
            continue
        parameters = proposal(space, before, number, maximise=plan.measure == "bleu", **how)
        store.add(one.study, space, parameters, arguments_at(space, parameters))
    one.trials = store.trials(one.study)


def _jobs(
    plan: TuningPlan,
    one: _Tuning,
    begin: int,
    end: int,
    *,
    limits: dict[int, list[float]] | None,
    device: str | None,
    cluster: Cluster | None,
) -> list[Job]:
    found = []
    for trial in one.trials[begin:end]:
        if trial.state != "open" or _twin(one.trials, trial) is not None:
            continue
        for seed in plan.seeds:
            folder = plan.folder_of(one.tuned, trial.number, seed)
            recipe = plan.recipe_of(one.tuned, trial.arguments, seed)
            if folder.state() != "empty":
                refuse_other_recipe(recipe, folder)
            if folder.state() in ("finished", "failed"):
                continue
            payload = {
                "recipe": recipe.of_one_run(),
                "source": f"{plan.recipe_name}, {one.tuned.variant.name}, trial {trial.number}",
                "folder": str(folder.path if cluster is None else folder.path.absolute()),
                "device": device,
                "session": "" if cluster is None else cluster.session,
                "limits": None if limits is None else limits[seed],
                "measure": plan.measure,
            }
            seeds = f" seed {seed}" if len(plan.seeds) > 1 else ""
            found.append(
                Job(f"{one.tuned.variant.name} trial {trial.number}{seeds}", payload, folder.path.absolute() / LOG_FILE)
            )
    return found


def _twin(trials: Sequence[Trial], trial: Trial) -> Trial | None:
    """Returns the first earlier trial with the same arguments, whose runs would be the same."""
    return next((other for other in trials[: trial.number] if other.arguments == trial.arguments), None)


def _made(
    todo: list[Job],
    jobs: int,
    cluster: Cluster | None,
    device: str | None,
    observe: Callable[[Event], None],
    problems: dict[str, str],
) -> set[str]:
    """Makes runs; returns the folders of those that were given up, and notes why others could not be made."""
    given_up: set[str] = set()
    if not todo:
        return given_up
    if cluster is None:
        events = run_jobs(todo, run_trial, processes=jobs, gpus=visible_gpus(device))
    else:
        events = cluster.run_jobs(todo, run_trial)
    # Closed here and now, whatever `observe` raises: closing is what tells the workers to stop.
    with contextlib.closing(cast("Generator[Event]", events)) as at_work:
        for event in at_work:
            observe(event)
            if event.kind == "failed" and RunFolder(event.job.payload["folder"]).state() != "failed":
                problems[event.job.name] = with_last_lines(event.message, event.job.log)
            if event.kind == "done" and event.result.get("given_up"):
                given_up.add(event.job.payload["folder"])
    return given_up


def run_trial(payload: dict[str, Any], observe: Callable[[Progress], None], stop: Callable[[], bool]) -> dict[str, Any]:
    """Makes one run of a trial in a worker process, which may be given up; see `training.jobs`."""

    def without_test(progress: Progress) -> None:
        line = progress.line
        observe(progress if line is None else progress._replace(line=line | {"test": None}))

    watch = None if payload["limits"] is None else Watch(payload["limits"], payload["measure"])
    made = run_job(payload, without_test, stop) if watch is None else watch.run(payload, without_test, stop)
    return made | {"test": None}  # which nobody is to choose by, not even by watching


def _settle(plan: TuningPlan, store: TrialStore, one: _Tuning, begin: int, end: int, given_up: set[str]) -> None:
    """Notes how the open trials of a round ended, those apart whose runs could not be made."""
    settled = list(one.trials)
    for trial in one.trials[begin:end]:
        if trial.state != "open":
            continue
        twin = _twin(settled, trial)
        state, score = (twin.state, twin.score) if twin is not None else _ended(plan, one.tuned, trial, given_up)
        if state == "open":
            continue
        store.settle(one.study, trial.number, state, score)
        settled[trial.number] = Trial(trial.number, trial.parameters, trial.arguments, state, score)
    one.trials = settled


def _ended(plan: TuningPlan, tuned: TunedVariant, trial: Trial, given_up: set[str]) -> tuple[State, float | None]:
    folders = [plan.folder_of(tuned, trial.number, seed) for seed in plan.seeds]
    states = [folder.state() for folder in folders]
    if "failed" in states:
        return "failed", None
    if any(str(folder.path) in given_up or str(folder.path.absolute()) in given_up for folder in folders):
        return "pruned", None
    if any(state != "finished" for state in states):
        return "open", None
    return "finished", fmean(score_of(folder, plan.measure) for folder in folders)


def _outcome(plan: TuningPlan, tuned: TunedVariant, one: _Tuning | None) -> Outcome:
    trials = [] if one is None else one.trials[: plan.trials]
    records = []
    for trial in trials:
        twin = _twin(trials, trial)
        folders = [plan.folder_of(tuned, (twin or trial).number, seed) for seed in plan.seeds]
        message = next((str(folder.result().get("message")) for folder in folders if folder.state() == "failed"), "")
        records.append(TrialRecord(trial, folders, message, None if twin is None else twin.number))
    return Outcome(tuned, records, maximise=plan.measure == "bleu")
