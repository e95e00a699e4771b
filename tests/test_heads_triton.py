"""The Triton heads where there is no GPU: interpreted, compiled ahead of time, and refused with the way out."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from labelembed.heads import chosen, chosen_for, linear_cross_entropy, triton_ready
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot

from .made_heads import made_tensors, settings

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
interprets = os.environ.get("TRITON_INTERPRET") == "1"


@needs_triton
@pytest.mark.timeout(600)
def test_heads_in_the_interpreter_are_those_of_the_plain_lines(tmp_path):
    """The variable must be set before Triton is imported, which another test may have done in this process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "interpreted_triton.py")]
    given = os.environ | {"TRITON_INTERPRET": "1", "TRITON_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run(command, cwd=HERE.parent, env=given, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout
    assert "skipped" not in ran.stdout


class CompiledAhead:
    """Stands in for a kernel: compiles what it is launched with for a GPU that is not there, and runs nothing."""

    compiled: dict[tuple, object]

    def __init__(self, kernel, capability):
        self.kernel, self.capability, self.compiled = kernel, capability, {}

    def __getitem__(self, grid):
        assert all(size >= 1 for size in grid)
        return self.launch

    def launch(self, *arguments, num_warps, enable_fp_fusion, **constants):
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
        from triton.runtime.jit import JITFunction, mangle_type

        assert isinstance(self.kernel, JITFunction)
        names = self.kernel.arg_names
        given = dict(zip(names, arguments, strict=False)) | constants
        assert list(given) == names
        fixed = {name: value for name, value in given.items() if name in constants or value is None}
        types = {name: "constexpr" if name in fixed else mangle_type(value) for name, value in given.items()}
        key = (tuple(types.values()), tuple(str(value) for value in fixed.values()), num_warps)
        if key not in self.compiled:
            source = ASTSource(self.kernel, types, {(names.index(name),): value for name, value in fixed.items()})
            options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
            target = GPUTarget("cuda", self.capability, 32)
            self.compiled[key] = triton.compile(source, target=target, options=options)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Kernels that compile and do not run, by name."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from labelembed.heads import fused_triton_kernels

    names = ("row_statistics_kernel", "slopes_kernel", "scale_kernel")
    found = {name: CompiledAhead(getattr(fused_triton_kernels, name), 90) for name in names}
    for name, kernel in found.items():
        monkeypatch.setattr(fused_triton_kernels, name, kernel)
    return found


def ptxas_is_missing():
    from triton import knobs

    try:
        return not Path(knobs.nvidia.ptxas.path).exists()
    except (AttributeError, RuntimeError):
        return True


@needs_triton
@pytest.mark.skipif(interprets, reason="TRITON_INTERPRET is set, so nothing is compiled")
@pytest.mark.parametrize("autocast", [True, False])
def test_all_launches_compile_for_a_gpu_that_is_not_there(compiled, autocast):
    """What the interpreter accepts and the compiler refuses is found here: each launch as the heads make it."""
    if ptxas_is_missing():
        pytest.skip("this triton brings no ptxas")
    from labelembed.heads import fused_triton, fused_triton_linear

    tensors, labels = made_tensors(40, 1100, rank=16)
    leaves = {name: value.float().requires_grad_() for name, value in tensors.items()}
    first = [leaves[name] for name in ("hidden", "weight", "bias")]
    second = [leaves[name] for name in ("auxiliary_weight", "auxiliary_bias")]
    tables = [leaves["full"]] if autocast else [(leaves["left"], leaves["right"])]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for table in tables:
            given = (*first, *second, table, labels, settings())
            total = fused_triton.label_embedding_terms(*given, chunk_rows=None).total
        total = total + fused_triton_linear.cross_entropy_terms(*first, labels, label_smoothing=0.1, chunk_rows=9).total
        (total * 2).backward()
    for name, least in (("row_statistics_kernel", 3), ("slopes_kernel", 3), ("scale_kernel", 1)):
        made = compiled[name].compiled
        assert len(made) >= least, name
        assert all(binary.asm["cubin"] for binary in made.values())
        assert not any(".local" in binary.asm["ptx"] for binary in made.values())  # nothing spilt by the first compiler


def test_without_a_gpu_triton_is_refused_with_what_auto_takes():
    hidden, weight, labels = torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(2, dtype=torch.int64)
    if triton_ready.installed() and not interprets:
        with pytest.raises(
            ValueError, match=r"`impl` 'triton' cannot run here: the hidden rows are on 'cpu', .*'closed"
        ):
            linear_cross_entropy(hidden, weight, None, labels, impl="triton")


@pytest.mark.skipif(interprets, reason="TRITON_INTERPRET is set, so Triton runs anywhere")
@pytest.mark.parametrize("objective", [OneHot, LabelSmoothing, LabelEmbedding])
def test_objectives_refuse_triton_without_it(objective, monkeypatch):
    monkeypatch.setattr(triton_ready, "installed", lambda: False)
    made = objective(4, 1000, impl="triton")
    message = (
        r"`impl` 'triton' cannot run here: triton is not installed \(pip install 'labelembed\[triton\]'\); .*'chunked'"
    )
    with pytest.raises(ValueError, match=message):
        made(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))


def test_auto_takes_chunks_on_a_gpu_too_and_triton_is_asked_for(monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(triton_ready, "why_not", lambda device: None)
    assert [chosen("auto", count, gpu) for count in (999, 1000)] == ["closed_form", "chunked"]
    assert chosen("triton", 1000, gpu) == "triton"
    assert chosen("auto", 1000, cpu) == "chunked"
    assert chosen("chunked", 1000, gpu) == "chunked"
    monkeypatch.setattr(triton_ready, "why_not", lambda device: "too old")
    assert chosen("auto", 1000, gpu) == "chunked"
    with pytest.raises(ValueError, match="too old; impl='auto' takes 'chunked'"):
        chosen("triton", 1000, gpu)


def test_a_layer_with_hooks_is_not_read_by_kernels(monkeypatch):
    monkeypatch.setattr(triton_ready, "why_not", lambda device: None)
    layer = nn.Linear(4, 12)
    assert chosen_for("triton", 12, layer) == "triton"
    layer.register_forward_hook(lambda *given: None)
    with pytest.raises(ValueError, match=r"`impl` 'triton' reads the weights of an nn\.Linear without hooks"):
        chosen_for("triton", 12, layer)


def test_an_old_card_is_named(monkeypatch):
    monkeypatch.setattr(triton_ready, "installed", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card of 2017")
    assert triton_ready.why_not(torch.device("cuda")) == "Card of 2017 is older than what Triton compiles for"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert triton_ready.why_not(torch.device("cuda")) is None
