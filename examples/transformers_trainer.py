"""Trainer of transformers, unchanged: a model with an objective in place of its last layer and its loss.

The model here is a small ViT with random weights on the digits of scikit-learn, so that nothing is downloaded. Yours:
AutoModelForSequenceClassification.from_pretrained(...), or any other that predicts a class or a token.
"""

import tempfile

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from labelembed.integrations.transformers import attach, load

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 8 - 1, dtype=torch.float32).view(-1, 1, 8, 8)
examples = [{"pixel_values": image, "labels": int(label)} for image, label in zip(images, labels, strict=True)]
train, test = examples[:1400], examples[1400:]

config = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    hidden_dropout_prob=0.0,
    id2label={digit: str(digit) for digit in range(10)},
)
model = ViTForImageClassification(config)
attached = attach(model, "online_label_smoothing", similarity_weight=0.4)

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        num_train_epochs=5,
        learning_rate=2e-3,
        warmup_steps=40,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=200,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=test, callbacks=[attached])
    trainer.train()
    output = trainer.predict(test)
    error = (output.predictions.argmax(axis=1) != output.label_ids).mean()
    # In evaluation the loss is the cross entropy of the logits, whatever the objective.
    print(f"test error {100 * error:.1f} %, cross entropy {output.metrics['test_loss']:.3f}")
    print("most like 4:", [each.name for each in attached.label_geometry().neighbours("4", k=3)])

    model.save_pretrained(folder)  # config.json names the objective, model.safetensors has its weights
    again = load(folder).model.eval()  # the model with its objective; from_pretrained loads the plain model
    print("loaded again, the same:", torch.equal(again(images[:5]).logits, model.eval()(images[:5]).logits))
