"""A LightningModule that owns an objective: the digits of scikit-learn, learned with adaptive labels."""

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import labelembed
from labelembed.integrations.lightning import ObjectiveCallback


class Classifier(LightningModule):
    """Your module: the objective stands where its output layer and its loss were."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.objective = labelembed.AdaptiveLabels(hidden_size=128, num_labels=10)

    def hidden_states(self, batch):
        """For objectives that look at every training example once more after an epoch, as this one does."""
        inputs, labels = batch
        return self.encoder(inputs), labels, None  # or the examples' positions in the training set

    def training_step(self, batch, batch_idx):
        terms = self.objective(*self.hidden_states(batch))
        self.log_dict({name: term.detach() for name, term in terms._asdict().items()})
        return terms.total

    def validation_step(self, batch, batch_idx):
        hidden, labels, _ = self.hidden_states(batch)
        error = (self.objective.logits(hidden).argmax(dim=1) != labels).float().mean()
        self.log("val_error", error)

    def configure_optimizers(self):
        groups = [{"params": self.encoder.parameters()}, *self.objective.parameter_groups(weight_decay=0.01)]
        return torch.optim.AdamW(groups, lr=2e-3, weight_decay=0.01)


torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
examples = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
train, validation = random_split(examples, [1400, len(examples) - 1400])
module = Classifier()
trainer = Trainer(
    max_epochs=20,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[ObjectiveCallback()],  # announces epochs to the objective
)
trainer.fit(module, DataLoader(train, batch_size=100, shuffle=True), DataLoader(validation, batch_size=200))
print(f"validation error {100 * trainer.callback_metrics['val_error']:.1f} %")
print("most like 4:", [each.name for each in module.objective.label_geometry().neighbours("4", k=3)])
