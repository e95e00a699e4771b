"""The digits that scikit-learn carries."""

from sklearn.datasets import load_digits

from labelembed.lab.data import DigitsReader


def test_read_digits_is_the_published_set_with_every_label_beside_its_own_image():
    raw = DigitsReader().read()
    assert [(len(part), tuple(part.inputs.shape[1:])) for part in (raw.train, raw.test)] == [
        (1348, (1, 8, 8)),
        (449, (1, 8, 8)),
    ]
    assert (raw.names, raw.input_range) == (tuple("0123456789"), (0.0, 16.0))
    whole = load_digits()
    published = sorted((image.tobytes(), int(label)) for image, label in zip(whole.data, whole.target, strict=True))
    read = [
        (image.tobytes(), label)
        for part in (raw.train, raw.test)
        for image, label in zip(part.inputs.double().flatten(1).numpy(), part.labels.tolist(), strict=True)
    ]
    assert sorted(read) == published
