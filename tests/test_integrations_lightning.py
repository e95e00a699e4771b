"""The callback for Lightning: a module of one's own trains what a plain loop trains, told of epochs and examples."""

from __future__ import annotations

import pytest

pytest.importorskip("lightning", reason="the extra `lightning` is not installed")

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labelembed import AdaptiveLabels, LabelEmbedding, OnlineLabelSmoothing, Retrospection
from labelembed.integrations.lightning import ObjectiveCallback
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


class Classifier(LightningModule):
    """What a person has already, with an objective in the place of the output layer and the loss."""

    def __init__(self, objective, rate=0.05):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.objective = objective
        self.rate = rate

    def hidden_states(self, batch):
        inputs, labels, indices = batch
        return self.encoder(inputs), labels, indices

    def training_step(self, batch, batch_idx):
        terms = self.objective(*self.hidden_states(batch))
        self.log_dict({name: term.detach() for name, term in terms._asdict().items()}, on_step=False, on_epoch=True)
        return terms.total

    def validation_step(self, batch, batch_idx):
        hidden, labels, _ = self.hidden_states(batch)
        self.log("val_error", (self.objective.logits(hidden).argmax(dim=-1) != labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(
            [{"params": self.encoder.parameters()}, *self.objective.parameter_groups(0.0)], self.rate
        )


def loader():
    return DataLoader(TensorDataset(INPUTS, LABELS, torch.arange(40)), batch_size=10)


def fit(module, tmp_path, *, epochs=1, validation=False, resume=None, save=False, callbacks=None, **settings):
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
        callbacks=[ObjectiveCallback()] if callbacks is None else callbacks,
        **settings,
    )
    trainer.fit(module, loader(), loader() if validation else None, ckpt_path=resume)
    return trainer


def test_a_fit_is_a_plain_loop(tmp_path):
    torch.manual_seed(1)
    module = Classifier(Retrospection(8, 3, num_examples=40, store_every=1))
    torch.manual_seed(1)
    plain = Classifier(Retrospection(8, 3, num_examples=40, store_every=1))
    trainer = fit(module, tmp_path, epochs=3)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    for epoch in range(3):
        plain.train().objective.start_epoch(epoch, 3, 4)
        for batch in loader():
            loss = plain.objective(*plain.hidden_states(batch)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        plain.eval()
        plain.objective.end_epoch(lambda: map(plain.hidden_states, loader()))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, msg=name)
    assert trainer.callback_metrics["retrospection"] > 0
    assert module.objective.beta == pytest.approx(0.9)  # of the last epoch


def test_validation_goes_by_the_means_over_the_training_set(tmp_path):
    module = Classifier(AdaptiveLabels(8, 3))
    # A callable makes the hidden states as well as the module's own method.
    read = ObjectiveCallback(lambda module, batch: (module.encoder(batch[0]), batch[1], None))
    trainer = fit(module, tmp_path, epochs=3, validation=True, callbacks=[read])
    with torch.no_grad():
        outputs = module.eval().objective.output(module.encoder(INPUTS))
        centroids = torch.stack([outputs[label == LABELS].mean(dim=0) for label in range(3)])
        logits = -torch.cdist(outputs, centroids)
    torch.testing.assert_close(module.objective.prediction_centroids, centroids)
    error = (logits.argmax(dim=1) != LABELS).float().mean()
    assert trainer.callback_metrics["val_error"].item() == pytest.approx(error.item())


def test_objectives_are_told_of_epochs(tmp_path):
    published = OnlineLabelSmoothing(8, 3, preset="published")
    fit(Classifier(published), tmp_path, epochs=2)
    assert not torch.allclose(published.similarities.whole(), torch.full((3, 3), 1 / 3))
    warming = LabelEmbedding(8, 3, target_warmup_steps=0.5)
    fit(Classifier(warming), tmp_path, epochs=2, accumulate_grad_batches=2)
    assert warming._warmup_end == 4  # of eight micro-batches


def test_a_run_of_so_many_steps_tells_its_epochs(tmp_path):
    remembering = Retrospection(8, 3, num_examples=40, store_every=1)
    trainer = fit(Classifier(remembering), tmp_path, epochs=-1, max_steps=10)
    assert trainer.current_epoch == 3  # of four batches; the last two steps are of the third
    assert remembering.beta == pytest.approx(0.9)  # of the last of three epochs


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
def test_a_resumed_fit_ends_with_the_same_numbers(tmp_path):
    def made():
        torch.manual_seed(2)
        return Classifier(LabelEmbedding(8, 3, target_warmup_steps=6))

    whole = made()
    fit(whole, tmp_path, epochs=4)
    stopped = fit(made(), tmp_path, epochs=4, save=True, max_steps=8)
    again = made()
    resumed = fit(again, tmp_path, epochs=4, save=True, resume=stopped.checkpoint_callback.best_model_path)
    assert resumed.global_step == 16
    for name, value in again.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_what_is_missing_is_named(tmp_path):
    class WithoutMethod(Classifier):
        hidden_states = None

        def training_step(self, batch, batch_idx):
            return self.objective(self.encoder(batch[0]), batch[1]).total

    class WithoutObjective(Classifier):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    with pytest.raises(ValueError, match="WithoutObjective owns no objective"):
        fit(WithoutObjective(nn.Linear(8, 3)), tmp_path)
    with pytest.raises(ValueError, match="`training_examples` must be given"):
        fit(WithoutMethod(AdaptiveLabels(8, 3)), tmp_path)


@pytest.mark.parametrize("needs_it", [AdaptiveLabels, lambda *sizes: Retrospection(*sizes, num_examples=40)])
def test_objective_that_needs_the_callback_does_not_train_without_it(needs_it, tmp_path):
    with pytest.raises(RuntimeError, match="start_epoch"):
        fit(Classifier(needs_it(8, 3)), tmp_path, callbacks=[])
