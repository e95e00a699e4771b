"""Your own training loop: the digits of scikit-learn, learned with label embeddings and calibrated."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import labelembed

EPOCHS = 30

torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
parts = train_test_split(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y), test_size=0.3, random_state=0)
train_x, rest_x, train_y, rest_y = parts
validation_x, test_x, validation_y, test_y = train_test_split(rest_x, rest_y, test_size=0.5, random_state=0)
loader = DataLoader(TensorDataset(train_x, train_y), batch_size=64, shuffle=True)

encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
# The objective is the output layer and the loss: it stands where nn.Linear and cross_entropy stood.
objective = labelembed.LabelEmbedding(hidden_size=128, num_labels=10)
groups = [{"params": encoder.parameters()}, *objective.parameter_groups(weight_decay=0.01)]  # E is not decayed
optimizer = torch.optim.AdamW(groups, lr=2e-3, weight_decay=0.01)

for epoch in range(EPOCHS):
    objective.start_epoch(epoch, EPOCHS, steps=len(loader))
    for inputs, labels in loader:
        terms = objective(encoder(inputs), labels)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    objective.end_epoch()
print({name: round(term.item(), 3) for name, term in terms._asdict().items()})

encoder.eval(), objective.eval()
with torch.no_grad():
    # Objectives with soft targets leave a network under-confident: one temperature, fitted on validation examples.
    logits = objective.logits(encoder(validation_x))
    objective.output_temperature.fill_(labelembed.fit_temperature(logits, validation_y))
    probabilities = objective.probabilities(encoder(test_x))

error = (probabilities.argmax(dim=1) != test_y).float().mean()
nll = nn.functional.nll_loss(probabilities.log(), test_y)
print(f"test error {100 * error:.1f} %, NLL {nll:.3f} at temperature {objective.output_temperature:.2f}")
geometry = objective.label_geometry()
print({digit: [each.name for each in geometry.neighbours(digit, k=3)] for digit in ("3", "4", "9")})
