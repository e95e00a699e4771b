"""Finds the last linear layer of a model, puts an objective in its place, and loads such a model again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from labelembed import seeds
from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_arguments import checked_arguments
from labelembed.integrations.transformers.attachment import Attachment
from labelembed.integrations.transformers.head import Head
from labelembed.objectives import OBJECTIVES, Objective


def attach(model: Any, objective: str, *, layer: str | None = None, **arguments: Any) -> Attachment:
    """Puts an objective in the place of a model's last linear layer and of its loss; the model is changed in place.

    Afterwards ``model(**inputs, labels=labels)`` has the objective's loss, a mean over the labels that are not -100 (of
    a causal language model shifted as before), also in `Trainer`, where under gradient accumulation it is the mean over
    the whole optimiser step. Logits come out as usual without labels and in evaluation mode; in training with labels
    there are none, since the objective computes its loss without all of them where there are many labels.

    Where the objective predicts by the layer's own logits, a folder that `save_pretrained` writes also loads as the
    plain model with transformers' own `from_pretrained`. `load` restores model and objective.

    Args:
        model: A model of transformers whose labels are classes or tokens.
        objective: Its name: `online_label_smoothing`, `label_embedding`, ... (`labelembed objectives`).
        layer: Name of the last linear layer, as in ``model.named_modules()``; None: the one that makes the logits of a
            language model, else the last with as many outputs as `config.num_labels`.
        arguments: The objective's hyper-parameters; `retrospection` needs `num_examples`, `distillation` a table
            `teacher_logits` [R, C], and both a column `indices` in the data.

    Returns:
        The attachment. Give it to Trainer (``callbacks=[attached]``) for objectives that must know of epochs.

    Raises:
        ValueError: An argument is out of its range, the layer is not found, or the model does more than choose among
            the layer's outputs: an objective would leave out a scale, a cap or a bias.

    Example:
        ``attached = attach(model, "online_label_smoothing")``, then ``Trainer(model, ..., callbacks=[attached])``.
    """
    checked = checked_arguments(objective, arguments)
    modules = dict(model.named_modules())
    for each in modules.values():
        if isinstance(each, Head):
            raise ValueError(f"{type(model).__name__} has an objective already, {type(each.objective).__name__}")
    path = _last_linear(model) if layer is None else layer
    linear = modules.get(path)
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"`layer` must name an nn.Linear, got {path!r}; {_linear_names(model)}")
    bias = getattr(model, "final_logits_bias", None)
    if bias is not None and not bool(bias.any()):
        # BART adds it to what comes out of the layer. One 0 can be added to hidden states as well.
        model.register_buffer("final_logits_bias", bias[:, :1].clone(), persistent=False)
    _require_linear(model, linear)
    built = _objective_for(linear, objective, checked)
    if built.output is not linear and _is_tied(model, linear.weight):
        raise ValueError(
            f"`objective`: {objective!r} has {built.output_size} outputs for {linear.out_features} tokens, so its "
            "weights cannot be those of the word embeddings; set tie_word_embeddings to False"
        )
    shifts = not model.config.is_encoder_decoder and (
        LOSS_MAPPING.get(getattr(model, "loss_type", None)) is ForCausalLMLoss
        or type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    )
    if shifts:
        model.loss_type = "ForCausalLM"  # so that Trainer counts the shifted labels
    head = Head(built.output, built, shifts=shifts)
    owner, _, name = path.rpartition(".")
    setattr(modules[owner], name, head)
    model.register_forward_pre_hook(head.before, with_kwargs=True)
    model.register_forward_hook(head.after)
    model.accepts_loss_kwargs = True  # the loss is scaled here, not by Trainer
    model.config.labelembed = {"objective": objective, "layer": path, "arguments": _as_json(checked)}
    return Attachment(model, head)


def load(folder: str | Path, **arguments: Any) -> Attachment:
    """Loads a model with its objective from what `save_pretrained` or a checkpoint of Trainer wrote.

    Args:
        folder: With ``config.json`` and safetensors.
        arguments: For transformers' `from_pretrained`, as `dtype` or `device_map`.

    Raises:
        ValueError: There is no model with an objective in the folder, or some of its weights are missing.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    saved = getattr(config, "labelembed", None)
    if saved is None:
        raise ValueError(f"{folder}: its config.json names no objective; load the model and `attach` one")
    kind = getattr(transformers, config.architectures[0], None)
    if kind is None:
        raise ValueError(
            f"{folder}: transformers has no {config.architectures[0]}; load the model and call `attach` again"
        )
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # the objective's weights would be reported as unknown
    try:
        model, found = kind.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True, **arguments)
    finally:
        transformers.utils.logging.set_verbosity(level)
    prefix = f"{saved['layer']}."
    missing = {name for name in found["missing_keys"] if not name.startswith(prefix)}
    attached = attach(model, saved["objective"], layer=saved["layer"], **_from_json(saved))
    own = dict(_tensors_of(Path(folder), prefix))
    lacking = set(attached.head.load_state_dict(own, strict=False).missing_keys)
    missing |= lacking - ({"weight"} if _is_tied(model, attached.head.weight) else set())
    if missing:
        raise ValueError(f"{folder}: has no weights {', '.join(sorted(missing)[:4])}; was the model saved whole?")
    return attached


def _tensors_of(folder: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yields the saved tensors of a module, by their names in it; large models are saved in several files."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dictionary
                if name.startswith(prefix):
                    yield name.removeprefix(prefix), file.get_tensor(name)


def _last_linear(model: Any) -> str:
    """Returns the name of the layer that makes a model's logits."""
    output = model.get_output_embeddings()
    linears: dict[str, nn.Linear] = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    found = [name for name, each in linears.items() if each is output]
    found = found or [name for name, each in linears.items() if each.out_features == model.config.num_labels]
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no linear layer with num_labels = {model.config.num_labels} outputs; name the "
            f"last one with `layer`; {_linear_names(model)}"
        )
    return found[-1]


def _linear_names(model: nn.Module) -> str:
    names = [name for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    return f"its last linear layers are {', '.join(names[-4:])}"


def _is_tied(model: nn.Module, weight: Tensor) -> bool:
    return any(isinstance(each, nn.Embedding) and each.weight is weight for each in model.modules())


@torch.no_grad()
def _require_linear(model: Any, layer: nn.Linear) -> None:
    """Raises ValueError where the model does more with the layer's outputs than choose among them or scale them.

    Tried with a few tokens: what the model makes of hidden states, through the layer, must be the model's logits.
    """
    if model.main_input_name != "input_ids":
        return
    tokens = torch.arange(4, device=model.device)[None]
    inputs = {"input_ids": tokens}
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        inputs["decoder_input_ids"] = tokens
    was_training = model.training
    model.eval()
    try:
        expected = model(**inputs).logits
        with layer.register_forward_hook(lambda module, hidden, output: hidden[0]):
            passed_on = model(**inputs).logits
        found = layer(passed_on)
        # The same layer on the same hidden states; the rest is rounding, in bfloat16 too.
        same = torch.allclose(expected, found, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    except RuntimeError:  # shapes that do not fit
        same = False
    finally:
        model.train(was_training)
    if not same:
        raise ValueError(
            f"{type(model).__name__} does more than one linear layer between its hidden states and its logits (a cap, "
            "a bias of its own, a transformation), which an objective in the place of that layer would leave out"
        )


def _objective_for(linear: nn.Linear, name: str, arguments: Mapping[str, Any]) -> Objective:
    """Returns an objective that owns the layer, or where it needs one of another form a new layer."""
    kind = OBJECTIVES[name]
    given = {"bias": linear.bias is not None} | dict(arguments)
    built: Objective = kind(linear.in_features, linear.out_features, **given)
    if built.output_size == linear.out_features and (built.output.bias is None) == (linear.bias is None):
        given.pop("bias")
        built = kind.from_linear(linear, num_labels=linear.out_features, **given)
    return built.to(device=linear.weight.device, dtype=linear.weight.dtype)


def _as_json(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an objective's arguments as config.json holds them.

    A label geometry becomes its kind and shape, for its numbers are among the weights; a teacher's logits are left out,
    for only training needs them.
    """
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, LabelGeometry):
            kind = "vectors" if value.similarities is None else "similarities"
            found[name] = {"label_geometry": kind, "shape": list(getattr(value, kind).shape)}
        elif name != "teacher_logits":
            found[name] = value.tolist() if isinstance(value, Tensor) else value
    return found


def _from_json(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `_as_json` was given, with made numbers for a geometry, which the weights will replace."""
    found = dict(saved["arguments"])
    for name, value in found.items():
        if isinstance(value, dict) and "label_geometry" in value:
            table = torch.randn(value["shape"], generator=seeds.generator(0, "made"))
            made: dict[str, Any] = {value["label_geometry"]: table}
            found[name] = LabelGeometry(tuple(map(str, range(len(table)))), **made)
    return found | ({"teacher_logits": None} if saved["objective"] == "distillation" else {})
