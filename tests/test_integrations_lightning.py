"""The callback for Lightning: a module of one's own trains what a plain loop trains, told of epochs and examples."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("lightning", reason="the extra `lightning` is not installed")

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labelembed import AdaptiveLabels, LabelEmbedding, Retrospection
from labelembed.integrations.lightning import ObjectiveCallback
from labelembed.seeds import generator

# Lightning's advice for the speed of loaders, and what it calls of torch's.
pytestmark = pytest.mark.filterwarnings("ignore")
INPUTS = torch.randn(40, 6, generator=generator(0, "inputs"))
LABELS = (INPUTS[:, 0] > 0).long() + (INPUTS[:, 1] > 0).long()


class Classifier(LightningModule):
    """What a person has already, with an objective in place of the output layer and the loss."""

    def __init__(self, objective):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.ReLU())
        self.objective = objective

    def hidden_states(self, batch):
        inputs, labels, indices = batch
        return self.encoder(inputs), labels, indices

    def training_step(self, batch, batch_idx):
        inputs, labels, indices = batch
        return self.objective(self.encoder(inputs), labels, indices).total

    def validation_step(self, batch, batch_idx):
        inputs, labels, _ = batch
        self.log("val_error", (self.objective.logits(self.encoder(inputs)).argmax(dim=-1) != labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD([{"params": self.encoder.parameters()}, *self.objective.parameter_groups(0.0)], 0.05)


def loader():
    return DataLoader(TensorDataset(INPUTS, LABELS, torch.arange(40)), batch_size=10)


def fit(module, tmp_path, *, epochs=1, validation=False, resume=None, save=False, callbacks=None, **settings):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    here = {"accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0, "default_root_dir": tmp_path}
    callbacks = [ObjectiveCallback()] if callbacks is None else callbacks
    trainer = Trainer(max_epochs=epochs, enable_checkpointing=save, callbacks=callbacks, **quiet, **here, **settings)
    trainer.fit(module, loader(), loader() if validation else None, ckpt_path=resume)
    return trainer


def test_a_fit_is_a_plain_loop(tmp_path):
    modules = []
    for _ in range(2):
        torch.manual_seed(1)
        modules.append(Classifier(Retrospection(8, 3, num_examples=40, store_every=1)))
    module, plain = modules
    fit(module, tmp_path, epochs=3)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05)
    for epoch in range(3):
        plain.train().objective.start_epoch(epoch, 3, 4)
        for batch in loader():
            optimizer.zero_grad()
            plain.training_step(batch, 0).backward()
            optimizer.step()
        plain.eval()
        plain.objective.end_epoch(lambda: map(plain.hidden_states, loader()))
    torch.testing.assert_close(module.state_dict(), plain.state_dict())


def test_validation_goes_by_the_means_over_the_training_set(tmp_path):
    module = Classifier(AdaptiveLabels(8, 3))
    # A callable computes the hidden states as well as the module's own method.
    callback = ObjectiveCallback(lambda module, batch: (module.encoder(batch[0]), batch[1], None))
    trainer = fit(module, tmp_path, epochs=3, validation=True, callbacks=[callback])
    with torch.no_grad():
        outputs = module.eval().objective.output(module.encoder(INPUTS))
    centroids = torch.stack([outputs[label == LABELS].mean(dim=0) for label in range(3)])
    torch.testing.assert_close(module.objective.prediction_centroids, centroids)
    error = (torch.cdist(outputs, centroids).argmin(dim=1) != LABELS).float().mean()
    assert trainer.callback_metrics["val_error"].item() == pytest.approx(error.item())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_the_pass_over_the_examples_has_the_hooks_and_the_precision_of_training(precision, tmp_path):
    class Scaled(Classifier):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            inputs, *rest = batch
            return (inputs * 3 + 1, *rest)

    module = Scaled(AdaptiveLabels(8, 3))
    fit(module, tmp_path, precision=precision)
    module = module.eval().float()
    outputs = module.objective.output(module.encoder(INPUTS * 3 + 1)).detach()
    centroids = torch.stack([outputs[label == LABELS].mean(dim=0) for label in range(3)])
    loose = {} if precision == "32-true" else {"rtol": 0.05, "atol": 0.05}  # bfloat16 has three digits
    torch.testing.assert_close(module.objective.prediction_centroids.float(), centroids, **loose)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_run_of_so_many_steps_knows_its_epochs(accumulated, tmp_path):
    module, announced = Classifier(AdaptiveLabels(8, 3)), []
    start_epoch = module.objective.start_epoch
    module.objective.start_epoch = lambda *epoch: (announced.append(epoch), start_epoch(*epoch))
    steps = 2 * math.ceil(4 / accumulated) + 1  # two epochs and the beginning of a third
    fit(module, tmp_path, epochs=-1, max_steps=steps, accumulate_grad_batches=accumulated)
    assert announced == [(epoch, 3, 4) for epoch in range(3)]


def test_a_resumed_fit_ends_with_the_same_numbers(tmp_path):
    def made():
        torch.manual_seed(2)
        return Classifier(LabelEmbedding(8, 3, target_warmup=0.4))

    whole, again = made(), made()
    fit(whole, tmp_path, epochs=4)
    stopped = fit(made(), tmp_path, epochs=4, save=True, max_steps=8)
    fit(again, tmp_path, epochs=4, save=True, resume=stopped.checkpoint_callback.best_model_path)
    for name, value in again.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_a_fit_without_end_stops_within_an_epoch_and_is_resumed_there(tmp_path):
    module, again = (Classifier(AdaptiveLabels(8, 3)) for _ in range(2))
    stop = LambdaCallback(on_train_batch_end=lambda fit, *_: setattr(fit, "should_stop", fit.global_step == 6))
    callbacks = [ObjectiveCallback(), stop, ModelCheckpoint(tmp_path, every_n_train_steps=6)]
    stopped = fit(module, tmp_path, epochs=-1, save=True, callbacks=callbacks)
    fit(again, tmp_path, epochs=3, resume=stopped.checkpoint_callback.best_model_path)
    for objective in (module.objective, again.objective):  # of all examples, not of the last batch
        assert not torch.equal(objective.prediction_centroids, objective.centroids)
