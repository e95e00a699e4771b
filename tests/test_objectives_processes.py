"""The examples of a step split over three processes, or two of them: trained is what one process trains."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.distributed as dist

from .made_processes import CASES, GROUPED, MICRO_BATCHES, evaluate, results_of, train

WORLD = 3
needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()),
    reason="this torch has no gloo, by which processes on a CPU talk",
)


@pytest.fixture(scope="module", params=[pytest.param(WORLD, marks=needs_gloo)])
def ranks(request, tmp_path_factory):
    """What the processes made; they are started once for all tests of the file."""
    return results_of(request.param, tmp_path_factory.mktemp("processes"))


@functools.cache
def single(case):
    """What one process makes of undivided batches."""
    return train(case)


def assert_state(found, expected):
    for name, value in expected["state"].items():
        # What is stored in float16 may round the other way.
        tolerance = 1e-3 if value.dtype == torch.float16 else 1e-6
        torch.testing.assert_close(found["state"][name], value, rtol=0, atol=tolerance)


def assert_trained(ranks, key, expected):
    for rank in ranks:
        assert_state(rank[key], expected)
    for step, terms in enumerate(expected["history"]):
        shares = [rank[key]["history"][step] for rank in ranks]
        found = {name: sum(share[name] for share in shares) / len(shares) for name in shares[0]}
        torch.testing.assert_close(found, terms, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_processes_end_with_the_parameters_and_the_state_of_one(ranks, case):
    assert_trained(ranks, case, single(case))


@pytest.mark.parametrize("case", MICRO_BATCHES)
def test_micro_batches_of_processes_end_with_what_one_process_ends_with(ranks, case):
    assert_trained(ranks, f"{case} micro", single(case))


@pytest.mark.parametrize("case", GROUPED)
def test_step_is_shared_by_the_process_group_of_the_objective(ranks, case):
    for number, rank in enumerate(ranks):
        assert_state(rank["groups"][case], single(case))
        refusal = f"process {number} is not in the `process_group` that its objective was given"
        assert rank["groups"]["refusal"] == refusal


def test_processes_that_evaluate_wait_for_no_other(ranks):
    # The first has one batch more than the second, and in evaluation mode each has the means of its own examples.
    for number, rank in enumerate(ranks):
        assert rank["evaluation"] == evaluate(number)
        assert len(rank["evaluation"]["one_hot"]) == 3 - number
