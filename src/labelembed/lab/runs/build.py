"""From a checked recipe to data, network, optimiser and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from labelembed import seeds
from labelembed.errors import LabelEmbedError
from labelembed.geometry import LabelGeometry
from labelembed.lab.data import CORPORA, DATA, Encoder, LabelledData, Reader, ReadingProgress, prepare
from labelembed.lab.data.cache import files_stamp
from labelembed.lab.data.text_encoder import ENCODER_FOLDER
from labelembed.lab.errors import RecipeError
from labelembed.lab.models import MODELS, SEQUENCE_MODELS, Augmentation, InputScaling, Mixing
from labelembed.lab.pretrained_text import encoder_folder
from labelembed.lab.recipes.components import BUILD_ERRORS, POINTED_TO, argument_errors, as_lines, keys_of, takes
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.training.batches import TrainingData
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.network import Network
from labelembed.lab.training.optimizers import OPTIMIZERS
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.schedules import SCHEDULES, Schedule
from labelembed.objectives import OBJECTIVES, Objective


def _arguments(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "name"}


def build_data(
    recipe: Recipe, *, progress: ReadingProgress | None = None, encoder: Encoder | None = None
) -> TrainingData:
    """Reads the data and cuts them into splits, which a corpus comes in.

    Args:
        recipe: Whose data.
        encoder: See `prepare`.
        progress: Called with (done, total) while pictures are decoded, or texts go through an encoder.

    Raises:
        DataError: When the data cannot be used.
    """
    if recipe.of_sentences:
        corpus = CORPORA[recipe.data["name"]]
        with _refusals("data"):
            return corpus(**{key: recipe.data[key] for key in keys_of(corpus)})
    return build_examples(recipe, progress=progress, encoder=encoder)


def data_stamp(recipe: Recipe) -> str | None:
    """Returns what tells without reading that the data have not changed; None where nothing does."""
    if "path" not in recipe.data:
        return str(recipe.data["name"])
    path = Path(recipe.data["path"]).expanduser()
    # The pictures of a list may lie anywhere.
    return None if recipe.data["name"] == "images" and path.is_file() else files_stamp(path)


def build_examples(
    recipe: Recipe, *, progress: ReadingProgress | None = None, encoder: Encoder | None = None
) -> LabelledData:
    """Reads labelled examples and cuts them into splits; see `build_data`, and `prepare` for `encoder`."""
    raw = build_reader(recipe).read(progress=progress)
    size = recipe.step_size(len(raw.names))
    return prepare(
        raw,
        validation=recipe.validation(),
        train_examples=recipe.data["train_examples"],
        batch_size=size if isinstance(size, int) else None,
        encoder=encoder,
        progress=progress,
    )


def build_reader(recipe: Recipe) -> Reader:
    """Returns the reader of a recipe with labelled examples; nothing is read yet."""
    reader = DATA[recipe.data["name"]]
    with _refusals("data"):
        return reader(**{key: recipe.data[key] for key in keys_of(reader)})


def build_sequence_network(
    recipe: Recipe,
    *,
    vocabulary_sizes: tuple[int, int],
    num_examples: int = 0,
    base: Path | None = None,
    trained: bool = False,
    embedding: LabelGeometry | None = None,
) -> Network:
    """Builds encoder-decoder and objective over the tokens of the target; see `build_network`.

    Args:
        recipe: What to build.
        vocabulary_sizes: Of source and target.
        num_examples: Target tokens of the training sentences, for objectives that remember each of them.
        base: The run folder, where the recipe's files are looked for first.
        trained: Whether it is to be trained; otherwise it is to predict only.
        embedding: The geometry that the objective is given; None: it is given none.

    Raises:
        RecipeError: When a part does not fit the corpus.
    """
    sizes = dict(zip(("source_vocabulary_size", "target_vocabulary_size"), vocabulary_sizes, strict=True))
    with _refusals("model"), seeds.seeded(recipe.seed, "encoder"):
        encoder: Any = SEQUENCE_MODELS[recipe.model["name"]](**sizes, **_arguments(recipe.model))
    objective = _build_objective(recipe, encoder, vocabulary_sizes[1], num_examples, embedding)
    if encoder.tied_output:
        if objective.output.weight.shape != encoder.target_embedding.weight.shape:
            found, wanted = (list(layer.weight.shape) for layer in (objective.output, encoder.target_embedding))
            reason = f"the output layer is {found}, the target embedding {wanted}"
            raise RecipeError([f"model.tied_output: must be false where shapes differ: {reason}"])
        objective.output.weight = encoder.target_embedding.weight
    return Network(nn.Identity(), encoder, objective)


def build_network(
    recipe: Recipe,
    *,
    num_labels: int,
    input_shape: tuple[int, ...],
    scaling: nn.Module,
    input_range: tuple[float, float] = (0.0, 1.0),
    num_examples: int = 0,
    base: Path | None = None,
    trained: bool = False,
    embedding: LabelGeometry | None = None,
    texts_with_feature: Tensor | None = None,
) -> Network:
    """Builds input scaling, encoder and objective.

    The encoder's start comes from (seed, "encoder") and the objective's from (seed, "objective"), so that
    with one seed every objective begins with the same encoder and output layer.

    Args:
        recipe: What to build.
        num_labels: C.
        input_shape: Of one input.
        scaling: Of the inputs.
        input_range: Smallest and largest value of an input; of words the numbers that there are.
        num_examples: Training examples, for objectives that remember each of them; 0 where nothing is trained.
        base: The run folder, where the recipe's files are looked for first.
        trained: Whether it is to be trained; otherwise it is to predict only.
        embedding: The geometry that the objective is given; None: it is given none.
        texts_with_feature: How many training texts have each feature, where the network weighs them by that.

    Raises:
        RecipeError: When a part does not fit the data.
    """
    seed = recipe.seed
    with _refusals("model"), seeds.seeded(seed, "encoder"):
        model_arguments = _model_arguments(recipe, base=base, trained=trained)
        kind = MODELS[recipe.model["name"]]
        if takes(kind, "encoder_folder"):
            model_arguments |= _encoder_arguments(recipe, base=base, trained=trained)
        if takes(kind, "vocabulary_size"):
            model_arguments["vocabulary_size"] = int(input_range[1]) + 1
        if takes(kind, "texts_with_feature"):
            model_arguments["texts_with_feature"] = texts_with_feature
        encoder: Any = kind(input_shape=input_shape, **model_arguments)
    objective = _build_objective(recipe, encoder, num_labels, num_examples, embedding)
    with _refusals("data"):
        how = recipe.data
        augmentation = Augmentation(how["augmentation"], cutout=how["cutout"], input_shape=input_shape)
        mixing = None
        if how["mixing"] != "none":
            mixing = Mixing(how["mixing"], alpha=how["mixing_alpha"], input_shape=input_shape)
    return Network(scaling, encoder, objective, augmentation, mixing)


def _build_objective(
    recipe: Recipe, encoder: Any, num_labels: int, num_examples: int, embedding: LabelGeometry | None
) -> Objective:
    """Builds the recipe's objective; its teacher's predictions are given to it when a run begins."""
    kind = OBJECTIVES[recipe.objective["name"]]
    arguments = {key: value for key, value in _arguments(recipe.objective).items() if key not in POINTED_TO.values()}
    given: dict[str, Any] = {"num_examples": num_examples, "teacher_logits": None}
    given |= {} if embedding is None else {"embedding": embedding}
    arguments |= {key: value for key, value in given.items() if takes(kind, key)}
    arguments |= {"hidden_size": encoder.hidden_size, "num_labels": num_labels, "output_std": encoder.output_std}
    with _refusals("objective"), seeds.seeded(recipe.seed, "objective"):
        objective: Objective = kind(**arguments)
    return objective


def _is_filled_later(base: Path | None, *, trained: bool) -> bool:
    """Tells whether weights come from the run folder: of a network that is to predict, or a run that goes on."""
    return not trained or (base is not None and load_newest(RunFolder(base).checkpoints)[0] is not None)


def _model_arguments(recipe: Recipe, *, base: Path | None, trained: bool) -> dict[str, Any]:
    """Returns the network's arguments, without a file of weights that it needs no more and that may be gone."""
    arguments = _arguments(recipe.model)
    if arguments.get("weights") is None or not _is_filled_later(base, trained=trained):
        return arguments
    return arguments | {"weights": None}


def _encoder_arguments(recipe: Recipe, *, base: Path | None, trained: bool) -> dict[str, Any]:
    """Returns where a pre-trained encoder is, and whether its weights are wanted: a run that has its own has them."""
    kept = None if base is None else base / ENCODER_FOLDER
    if kept is not None and (kept / "config.json").is_file() and _is_filled_later(base, trained=trained):
        return {"encoder_folder": kept, "encoder_filled": False}
    return {"encoder_folder": encoder_folder(recipe.data["encoder"]), "encoder_filled": True}


@contextmanager
def _refusals(kind: str) -> Iterator[None]:
    """Turns what a component says about its arguments into a RecipeError."""
    try:
        yield
    except LabelEmbedError:
        raise
    except BUILD_ERRORS as error:
        raise RecipeError(as_lines(argument_errors(kind, error))) from error


def build_scaling(recipe: Recipe, data: LabelledData) -> nn.Module:
    """Returns the input scaling the recipe asks for, with the statistics of the training examples; of words none."""
    if recipe.of_words:
        return nn.Identity()
    if recipe.data["scaling"] == "standard":
        mean, deviation = data.input_statistics()
        return InputScaling(offset=mean.tolist(), scale=deviation.tolist())
    low, high = data.input_range
    return InputScaling(offset=[float(low)], scale=[float(high - low) or 1.0])


def empty_scaling(recipe: Recipe, input_shape: tuple[int, ...]) -> nn.Module:
    """Returns an input scaling of the right shape, for saved numbers to be loaded into."""
    if recipe.of_words:
        return nn.Identity()
    channels = input_shape[0] if recipe.data["scaling"] == "standard" else 1
    return InputScaling(offset=[1.0] * channels, scale=[1.0] * channels)


def build_optimizer(recipe: Recipe, network: Network) -> Optimizer:
    """Builds the optimiser over a network that is on its device."""
    return OPTIMIZERS[recipe.optimizer["name"]](network, **_arguments(recipe.optimizer))


def build_schedule(recipe: Recipe) -> Schedule:
    """Builds the learning-rate schedule."""
    return SCHEDULES[recipe.schedule["name"]](**_arguments(recipe.schedule))
