"""The LightningModule: a plain loop's numbers, word of epochs, measures and checkpoints."""

from __future__ import annotations

import pytest

pytest.importorskip("lightning", reason="the extra `lightning` is not installed")

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labelembed import AdaptiveLabels, LabelEmbedding, LabelSmoothing, OnlineLabelSmoothing, Retrospection
from labelembed.integrations.lightning import ObjectiveModule
from labelembed.seeds import generator

pytestmark = [
    # Lightning's advice for the speed of loaders, and what it calls of torch's.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
INPUTS = torch.randn(40, 6, generator=generator(0, "inputs"))
LABELS = (INPUTS[:, 0] > 0).long() + (INPUTS[:, 1] > 0).long()


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU())


def loader(*, rows=True, shuffle=False):
    parts = (INPUTS, LABELS, torch.arange(40)) if rows else (INPUTS, LABELS)
    return DataLoader(TensorDataset(*parts), batch_size=10, shuffle=shuffle)


def fit(module, tmp_path, *, epochs=1, rows=True, validation=False, resume=None, save=False, **settings):
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=save,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(module, loader(rows=rows), loader() if validation else None, ckpt_path=resume)
    return trainer


def test_a_fit_is_a_plain_loop(tmp_path):
    objective = LabelSmoothing(8, 3, smoothing=0.2)
    torch.manual_seed(1)
    layer = nn.Linear(8, 3)
    objective.output.load_state_dict(layer.state_dict())
    module = ObjectiveModule(encoder(), objective, optimizer="sgd", learning_rate=0.1, schedule="linear")
    trainer = fit(module, tmp_path, epochs=2, rows=False)
    plain = encoder()
    optimizer = torch.optim.SGD([*plain.parameters(), *layer.parameters()], momentum=0.9)
    losses = []
    for step in range(8):
        some = slice(10 * (step % 4), 10 * (step % 4) + 10)
        loss = F.cross_entropy(layer(plain(INPUTS[some])), LABELS[some], label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 8)
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(module.encoder[0].weight, plain[0].weight)
    torch.testing.assert_close(module.objective.output.weight, layer.weight)
    assert trainer.callback_metrics["train/total"].item() == pytest.approx(sum(losses[4:]) / 4, rel=1e-5)
    assert {"train/output", "train/uniform"} <= trainer.callback_metrics.keys()


def test_validation_goes_by_the_means_over_the_training_set(tmp_path):
    module = ObjectiveModule(encoder(), AdaptiveLabels(8, 3), learning_rate=0.02)
    trainer = fit(module, tmp_path, epochs=3, validation=True)
    with torch.no_grad():
        outputs = module.eval().objective.output(module.encoder(INPUTS))
        centroids = torch.stack([outputs[label == LABELS].mean(dim=0) for label in range(3)])
        logits = -torch.cdist(outputs, centroids)
    torch.testing.assert_close(module.objective.prediction_centroids, centroids)
    error = (logits.argmax(dim=1) != LABELS).float().mean()
    assert trainer.callback_metrics["val/error"].item() == pytest.approx(error.item())
    expected = F.cross_entropy(logits, LABELS).item()
    assert trainer.callback_metrics["val/nll"].item() == pytest.approx(expected, rel=1e-4)
    predicted = torch.cat(trainer.predict(module, DataLoader(INPUTS, batch_size=16)))
    torch.testing.assert_close(predicted, logits, atol=1e-5, rtol=1e-4)


def test_objectives_are_told_of_epochs_and_rows(tmp_path):
    remembering = Retrospection(8, 3, num_examples=40, store_every=1)
    trainer = fit(ObjectiveModule(encoder(), remembering), tmp_path, epochs=2)
    assert torch.equal(remembering.store.classes.long(), LABELS)
    assert trainer.callback_metrics["train/retrospection"] > 0
    assert remembering.beta == pytest.approx(0.9)  # of the last epoch
    published = OnlineLabelSmoothing(8, 3, preset="published")
    fit(ObjectiveModule(encoder(), published, learning_rate=0.05), tmp_path, epochs=2)
    assert not torch.allclose(published.similarities.whole(), torch.full((3, 3), 1 / 3))
    warming = LabelEmbedding(8, 3, target_warmup_steps=0.5)
    fit(ObjectiveModule(encoder(), warming), tmp_path, epochs=2)
    assert warming._warmup_end == 4
    with pytest.raises(ValueError, match="`indices` must be"):
        fit(
            ObjectiveModule(encoder(), Retrospection(8, 3, num_examples=40, store="steps", store_every=1)),
            tmp_path,
            epochs=2,
            rows=False,
        )


def test_a_run_of_so_many_steps_tells_its_epochs(tmp_path):
    remembering = Retrospection(8, 3, num_examples=40, store_every=1)
    trainer = fit(ObjectiveModule(encoder(), remembering), tmp_path, epochs=-1, max_steps=10)
    assert trainer.current_epoch == 3  # of four batches; the last two steps are of the third
    assert remembering.beta == pytest.approx(0.9)  # of the last of three epochs


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_resumed_fit_ends_with_the_same_numbers(tmp_path):
    def made():
        torch.manual_seed(2)
        return ObjectiveModule(encoder(), LabelEmbedding(8, 3, target_warmup_steps=6), weight_decay=0.1)

    whole = made()
    fit(whole, tmp_path, epochs=4)
    half = made()
    stopped = fit(half, tmp_path, epochs=4, save=True, max_steps=8)
    again = made()
    resumed = fit(again, tmp_path, epochs=4, save=True, resume=stopped.checkpoint_callback.best_model_path)
    assert resumed.global_step == 16
    for name, value in again.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_groups_go_to_an_optimiser_of_ones_own(tmp_path):
    objective = LabelEmbedding(8, 3, embedding_learning_rate=2.0)
    module = ObjectiveModule(encoder(), objective, optimizer=torch.optim.Adagrad, learning_rate=0.1, weight_decay=0.3)
    trainer = fit(module, tmp_path)
    groups = trainer.optimizers[0].param_groups
    assert [(group["initial_lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.3), (0.1, 0.3), (0.2, 0.0)]
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"`optimizer` must be one of 'adam', 'adamw', 'sgd', got 'adan'"):
        ObjectiveModule(encoder(), LabelSmoothing(8, 3), optimizer="adan")
    with pytest.raises(ValueError, match="`learning_rate` must be > 0, got 0"):
        ObjectiveModule(encoder(), LabelSmoothing(8, 3), learning_rate=0.0)
    batch = {"inputs": INPUTS, "labels": LABELS}
    assert ObjectiveModule.parts(batch)[2] is None
    assert len(ObjectiveModule.parts((INPUTS, LABELS, LABELS))) == 3
