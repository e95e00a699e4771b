"""A model of transformers with an objective in place of its last linear layer and its loss.

`attach` changes a model in place; `Trainer`, `generate`, `save_pretrained` and your own loop work as before.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from labelembed import seeds
from labelembed.distributed import process_count
from labelembed.errors import unknown_name
from labelembed.geometry import LabelGeometry
from labelembed.integrations.training_examples import evaluation_mode, training_examples
from labelembed.objectives import OBJECTIVES, Objective

try:
    import transformers
    from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
except ImportError as error:
    message = "labelembed.integrations.transformers needs transformers 5: pip install 'labelembed[transformers]'"
    raise ImportError(message) from error


class _SharedLinear(nn.Linear):
    """A linear layer with the parameters of another module, which owns them."""

    owner: nn.Linear

    def __init__(self, owner: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = owner.in_features, owner.out_features
        self.__dict__["owner"] = owner  # not registered as a submodule: the owner holds this layer

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.owner.weight

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        return self.owner.bias


class Head(nn.Linear):
    """A model's last linear layer with an objective around it; see `attach`.

    Weight and bias are the layer's own under their old names: tied weights stay tied, and what is saved also loads as
    the plain model. It returns the objective's logits; but with labels in training mode it passes the hidden states on,
    which the model treats as it would its logits (takes the last token's, say), and `after` computes the loss of them.
    """

    def __init__(self, layer: nn.Linear, objective: Objective, *, shifts: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = layer.weight
        self.register_parameter("bias", layer.bias)
        objective.output = _SharedLinear(self)
        self.objective = objective
        self.shifts = shifts
        self.collects = self.has_learned = self._was_called = False
        # Of the forward pass under way: labels as the hidden states have them, indices, labels in the whole step.
        self._targets: tuple[Tensor, Tensor | None, Tensor | int | None] | None = None
        self._precision: dict[str, Any] = {}

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns logits [..., C], or where the objective is to learn the hidden states [..., H]."""
        if self._targets is None:
            return self.objective.logits(hidden)
        device = hidden.device.type
        self._precision = {"enabled": torch.is_autocast_enabled(device), "dtype": torch.get_autocast_dtype(device)}
        self._was_called = True
        return hidden

    def before(self, model: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Takes the labels out of the inputs, so that the model computes no loss: a forward pre-hook of the model.

        In evaluation mode they stay, and the model computes the cross entropy of the objective's logits.
        """
        indices = inputs.pop("indices", None)
        self._targets, self._was_called = None, False
        has_labels = inputs.get("labels") is not None or inputs.get("shift_labels") is not None
        if not has_labels or not (self.training or self.collects):
            return args, inputs
        labels, shifted, num_items = (
            inputs.pop(name, None) for name in ("labels", "shift_labels", "num_items_in_batch")
        )
        has_inputs = any(inputs.get(f"decoder_{name}") is not None for name in ("input_ids", "inputs_embeds"))
        if model.config.is_encoder_decoder and model.get_output_embeddings() is not None and not has_inputs:
            if move := getattr(model, "prepare_decoder_input_ids_from_labels", None):
                inputs["decoder_input_ids"] = move(labels)
            else:  # M2M100 and Whisper do it in `forward`, as BART does
                from transformers.models.bart.modeling_bart import shift_tokens_right

                special = (model.config.pad_token_id, model.config.decoder_start_token_id)
                inputs["decoder_input_ids"] = shift_tokens_right(labels, *special)
        if shifted is None:
            shifted = F.pad(labels[..., 1:], (0, 1), value=-100) if self.shifts else labels
        self._targets = (shifted, indices, num_items)
        return args, inputs

    def after(self, model: Any, args: Any, outputs: Any) -> Any:
        """Puts the objective's loss in place of the logits: a forward hook of the model."""
        if self._targets is None:
            if self.training and getattr(outputs, "loss", None) is not None:
                raise ValueError("the objective finds labels by their name: model(..., labels=labels)")
            return outputs
        (labels, indices, num_items), self._targets = self._targets, None
        if not self._was_called:
            reason = "was replaced after `attach`, as resize_token_embeddings does; attach the objective after that"
            raise RuntimeError(f"the output layer of {type(model).__name__} {reason}")
        hidden = outputs[0] if isinstance(outputs, tuple) else outputs.logits
        labels, indices = labels.to(hidden.device), None if indices is None else indices.to(hidden.device)
        if self.collects:
            return hidden, labels, indices
        self.has_learned = True
        weight, counted = self.objective.weight, labels[labels >= 0]
        if num_items is not None and weight is not None and len(counted):  # Trainer counts labels, not their weights
            num_items = num_items * weight[counted].mean()
        # Accelerate's own autocast ends before a hook of the model begins.
        with torch.autocast(hidden.device.type, **self._precision):
            loss = self.objective(hidden, labels, indices, num_items_in_step=num_items).total
        if num_items is not None:  # Trainer multiplies by the number of processes, as the objective has done
            loss = loss / process_count(self.objective.process_group)
        if getattr(outputs, "aux_loss", None) is not None:  # a mixture of experts adds it where it has labels
            loss = loss + model.router_aux_loss_coef * outputs.aux_loss
        if isinstance(outputs, tuple):
            return (loss, *outputs[1:])
        return type(outputs)(**{**outputs, "loss": loss, "logits": None})


class Attachment(transformers.TrainerCallback):  # type: ignore[misc]
    """An `objective` in a `model`, in the `head` that replaces its last layer; `Trainer` calls it at each epoch."""

    def __init__(self, model: Any, head: Head) -> None:
        self.model = model
        self.head = head
        self.objective: Objective = head.objective
        self._ended = True

    def label_geometry(self) -> LabelGeometry:
        """Returns what the objective learned about the labels, by the names of `config.id2label` where they fit."""
        names = [str(name) for _, name in sorted((self.model.config.id2label or {}).items())]
        return self.objective.label_geometry(names if len(names) == self.objective.num_labels else None)

    def parameter_groups(self, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups with the weight decay and the learning rates that the objective asks for.

        Trainer by itself decays label embeddings too, which pulls them towards a uniform distribution:
        ``Trainer(..., optimizers=(AdamW(attached.parameter_groups(learning_rate=5e-5, weight_decay=0.01)), None))``.
        """
        of_objective = {id(parameter) for parameter in self.objective.parameters()}
        decayed = set(transformers.Trainer.get_decay_parameter_names(None, self.model))  # no norms and no biases
        groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
        for name, parameter in self.model.named_parameters():
            if id(parameter) not in of_objective:
                groups[name not in decayed]["params"].append(parameter)
        groups += self.objective.parameter_groups(weight_decay)
        for group in groups:
            group["lr"] = learning_rate * group.pop("learning_rate_factor", 1.0)
        return [group for group in groups if group["params"]]

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Warns where weight decay reaches label embeddings, or their own learning rate has no effect."""
        groups, theirs = self.objective.parameter_groups(1.0), getattr(parts.get("optimizer"), "param_groups", ())
        spared = {id(each) for group in groups if group["weight_decay"] == 0 for each in group["params"]}
        way_out = "give Trainer optimizers=(AdamW(attached.parameter_groups(...)), None)"
        if any(group.get("weight_decay") and spared & {id(each) for each in group["params"]} for group in theirs):
            warnings.warn(f"weight decay pulls the label embedding towards uniform; {way_out}", stacklevel=2)
        rates = {group.get("initial_lr", group["lr"]) for group in theirs}
        if len(rates) == 1 and any(group.get("learning_rate_factor", 1.0) != 1.0 for group in groups):
            warnings.warn(f"all parameters have one learning rate, label embeddings too; {way_out}", stacklevel=2)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Starts the objective's epoch."""
        epochs = 1 if state.num_train_epochs > state.max_steps else math.ceil(state.num_train_epochs)  # 1 of a stream
        self._ended = False
        epoch, steps = min(int(state.epoch or 0), epochs - 1), max(1, state.max_steps // epochs)
        self.objective.start_epoch(epoch, epochs, steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Ends the objective's epoch after its last step, before the checkpoint of that step is written."""
        if not self.head.has_learned:
            way_out = "`label_smoothing_factor` (attach 'label_smoothing' for it), `compute_loss_func` and `model_init`"
            raise ValueError(f"Trainer trained another loss or model than the attached one: leave out {way_out}")
        if float(state.epoch).is_integer():
            self.on_epoch_end(args, state, control, **parts)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Ends an epoch that stopped before its last step."""
        if not self._ended:
            self._ended = True
            parameters = (self.model, parts["train_dataloader"], self.hidden_states)
            size = args.per_device_eval_batch_size
            self.objective.end_epoch(partial(training_examples, *parameters, batch_size=size))

    def hidden_states(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Returns hidden states [N, H] or [B, T, H], labels, and indices or None, of a batch with `labels`."""
        given = {name: value.to(self.model.device) for name, value in batch.items() if torch.is_tensor(value)}
        self.head.collects = True
        try:
            return self.model(**given)  # type: ignore[no-any-return]
        finally:
            self.head.collects = False


def attach(model: Any, objective: str, *, layer: str | None = None, **arguments: Any) -> Attachment:
    """Puts an objective in place of a model's last linear layer and of its loss; the model is changed in place.

    Afterwards ``model(**inputs, labels=labels)`` in training mode has the objective's loss, a mean over the labels that
    are not -100 (shifted as before in a causal language model, and over the whole optimiser step in `Trainer`), and no
    logits: with many labels they are never computed all at once. In evaluation mode there are logits, and the loss is
    their cross entropy, whatever the objective.

    Where the objective predicts by the layer's own logits, what `save_pretrained` writes also loads as the plain model.
    `load` restores model and objective.

    Args:
        model: A model of transformers whose labels are classes or tokens.
        objective: Its name, a key of `labelembed.OBJECTIVES`: `online_label_smoothing`, `label_embedding`, ...
        layer: Name of the last linear layer, as in ``model.named_modules()``; None: the one that computes the logits of
            a language model, else the last with `config.num_labels` outputs.
        arguments: The objective's hyper-parameters; `retrospection` needs `num_examples`, `distillation` a table
            `teacher_logits` [R, C], and both a column `indices` in the data.

    Raises:
        ValueError: An argument is wrong, the layer is not found, or the model does more after the layer than choose
            among its outputs: the objective would leave out a scale, a cap or a bias.

    Example:
        ``attached = attach(model, "online_label_smoothing")``, then ``Trainer(model, ..., callbacks=[attached])``
    """
    if objective not in OBJECTIVES:
        raise ValueError(unknown_name("objective", objective, OBJECTIVES))
    linears = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    if any(isinstance(each, Head) for each in linears.values()):
        raise ValueError(f"{type(model).__name__} has an objective already")
    path = _last_linear(model, linears) if layer is None else layer
    if path not in linears:
        raise ValueError(f"`layer` must name an nn.Linear such as {', '.join([*linears][-4:])}, got {path!r}")
    linear = linears[path]
    bias = getattr(model, "final_logits_bias", None)
    if bias is not None and not bool(bias.any()):
        # BART adds it to what the layer returns. A single 0 can be added to hidden states as well.
        model.register_buffer("final_logits_bias", bias[:, :1].clone(), persistent=False)
    _check_nothing_follows(model, linear)
    built = _objective_for(linear, objective, arguments)
    if built.output is not linear and _is_tied(model, linear.weight):
        outputs = f"{built.output_size} outputs for {linear.out_features} tokens"
        reason = "which word embeddings cannot be tied to; set tie_word_embeddings to False"
        raise ValueError(f"`objective`: {objective!r} has {outputs}, {reason}")
    shifts = not model.config.is_encoder_decoder and (
        LOSS_MAPPING.get(getattr(model, "loss_type", None)) is ForCausalLMLoss
        or type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    )
    if shifts:
        model.loss_type = "ForCausalLM"  # so that Trainer counts the shifted labels
    head = Head(built.output, built, shifts=shifts)
    model.set_submodule(path, head)
    model.register_forward_pre_hook(head.before, with_kwargs=True)
    model.register_forward_hook(head.after)
    model.accepts_loss_kwargs = True  # the loss is scaled here, not by Trainer
    model.config.labelembed = {"objective": objective, "layer": path, "arguments": _as_json(arguments)}
    return Attachment(model, head)


def load(folder: str | Path, **arguments: Any) -> Attachment:
    """Loads a model with its objective from what `save_pretrained` or a checkpoint of Trainer wrote.

    Args:
        folder: With ``config.json`` and safetensors; a ValueError says what is missing in it.
        arguments: For transformers' `from_pretrained`, as `dtype` or `device_map`.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    saved = getattr(config, "labelembed", None)
    if saved is None:
        raise ValueError(f"{folder}: its config.json names no objective; load the model and `attach` one")
    name = config.architectures[0]
    kind = getattr(transformers, name, None)
    if kind is None:
        raise ValueError(f"{folder}: transformers has no {name}; load the model and call `attach` again")
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # it would report the objective's weights as unknown
    try:
        settings = {"ignore_mismatched_sizes": True, "output_loading_info": True, **arguments}
        model, loaded = kind.from_pretrained(folder, **settings)
    finally:
        transformers.utils.logging.set_verbosity(level)
    prefix = f"{saved['layer']}."
    attached = attach(model, saved["objective"], layer=saved["layer"], **_from_json(saved))
    missing = set(attached.head.load_state_dict(_tensors_of(Path(folder), prefix), strict=False).missing_keys)
    others = {id(its) for name, its in model.named_parameters(remove_duplicate=False) if not name.startswith(prefix)}
    missing = {name for name in missing if id(getattr(attached.head, name, None)) not in others}  # tied: saved there
    missing |= {name for name in loaded["missing_keys"] if not name.startswith(prefix)}
    if missing:
        raise ValueError(f"{folder}: has no weights {', '.join(sorted(missing)[:4])}; was the model saved whole?")
    return attached


def _tensors_of(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Returns the saved tensors of a module, by their names in it; large models are saved in several files."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no dictionary
            tensors |= {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    return tensors


def _last_linear(model: Any, linears: Mapping[str, nn.Linear]) -> str:
    """Returns the name of the layer that computes a model's logits."""
    output, labels = model.get_output_embeddings(), model.config.num_labels
    paths = [name for name, each in linears.items() if each is output]
    paths = paths or [name for name, each in linears.items() if each.out_features == labels]
    if not paths:
        last = f"name the last one with `layer`, of {', '.join([*linears][-4:])}"
        raise ValueError(f"{type(model).__name__} has no linear layer with num_labels = {labels} outputs; {last}")
    return paths[-1]


def _is_tied(model: nn.Module, weight: Tensor) -> bool:
    return any(isinstance(each, nn.Embedding) and each.weight is weight for each in model.modules())


@torch.no_grad()
def _check_nothing_follows(model: Any, layer: nn.Linear) -> None:
    """Raises ValueError where the layer, applied to what it reads of a few tokens, does not give the model's logits."""
    if model.main_input_name != "input_ids":
        return
    tokens = torch.arange(4, device=model.device)[None]
    inputs = {"input_ids": tokens, "return_dict": True}
    if model.config.is_encoder_decoder and model.get_output_embeddings() is not None:
        inputs["decoder_input_ids"] = tokens
    try:
        with evaluation_mode(model):
            expected = model(**inputs).logits
            with layer.register_forward_hook(lambda module, hidden, output: hidden[0]):
                hidden = model(**inputs).logits
            logits = layer(hidden)
        # The same layer on the same hidden states; the rest is rounding, in bfloat16 too.
        same = torch.allclose(expected, logits, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    except RuntimeError:  # shapes that do not fit
        same = False
    if not same:
        more = "more than one linear layer between its hidden states and its logits (a cap, a bias, a transformation)"
        raise ValueError(f"{type(model).__name__} has {more}, which an objective in place of the layer would leave out")


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
    """Returns an objective's arguments for config.json; of a geometry the shape, its numbers are among the weights."""
    saved: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, LabelGeometry):
            kind = "vectors" if value.similarities is None else "similarities"
            saved[name] = {"label_geometry": kind, "shape": list(getattr(value, kind).shape)}
        elif name != "teacher_logits":  # only training needs them
            saved[name] = value.tolist() if hasattr(value, "tolist") else value  # NumPy's too
    return saved


def _from_json(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `_as_json` was given, with random numbers for a geometry, which the weights will replace."""
    arguments = dict(saved["arguments"])
    for name, value in arguments.items():
        if isinstance(value, dict) and "label_geometry" in value:
            table = torch.randn(value["shape"], generator=seeds.generator(0, "made"))
            tables: dict[str, Any] = {value["label_geometry"]: table}
            arguments[name] = LabelGeometry(tuple(map(str, range(len(table)))), **tables)
    return arguments | ({"teacher_logits": None} if saved["objective"] == "distillation" else {})
