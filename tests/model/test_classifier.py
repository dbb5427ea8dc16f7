"""The classifier: arguments, heads, reading, checking."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests import networks
from xaikit.api import attribute
from xaikit.foundation.errors import BadInput, NoSuchLayer, XaikitError, XaikitWarning
from xaikit.images.reading import Resize
from xaikit.model.classifier import Classifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def net(build=networks.Net, dtype=torch.float32):
    return networks.seeded(build, dtype).eval()


def images(count: int = 3, channels: int = 3):
    return networks.images(count, channels, dtype=torch.float32)


# ---- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"output": "soft"}, "output: expected one of softmax, sigmoid, binary, regression"),
        ({"mean": (0.5, 0.5)}, "mean: expected 3 numbers"),
        ({"mean": (123.7, 116.3, 103.5)}, r"mean: expected numbers in \[0, 1\]"),
        ({"mean": "grey"}, "mean: expected 3 numbers"),
        ({"std": 0.0}, "std: expected numbers above 0"),
        ({"size": (224,)}, r"size: expected \(H, W\)"),
        ({"size": (3, 224, 224)}, r"size: expected \(H, W\)"),
        ({"size": 0}, r"size: expected \(H, W\)"),
        ({"layer": nn.Conv2d(1, 1, 1)}, "expected a module of the network"),
        ({"layer": 7}, "layer: expected a name or a module, got int"),
    ],
)
def test_bad_arguments(arguments, reason):
    with pytest.raises(BadInput, match=reason):
        Classifier(net(), **arguments)


def test_what_is_no_network():
    with pytest.raises(BadInput, match="wrap a function in one"):
        Classifier(lambda x: x)
    with pytest.raises(BadInput, match="got a Classifier"):
        Classifier(Classifier(net()))
    with torch.inference_mode():
        inside = nn.Conv2d(3, 4, 1)
    with pytest.raises(BadInput, match="got inference tensors"):
        Classifier(inside)


def test_built_inside_inference_mode():
    network = net()
    with torch.inference_mode():
        classifier = Classifier(network, MEAN, STD)
    pixels = images().requires_grad_(True)
    assert torch.autograd.grad(classifier(pixels).sum(), pixels)[0].abs().max() > 0


@pytest.mark.parametrize("mean", [0.5, (0.5,) * 3, np.full(3, 0.5), torch.full((3,), 0.5)])
def test_normalize(mean):
    classifier = Classifier(net(), mean, 0.25)
    assert torch.equal(classifier.normalize(images()), (images() - 0.5) / 0.25)
    assert classifier.bounded


def test_logits_are_the_networks():
    network = net()
    pixels = images()
    expected = network((pixels - torch.tensor(MEAN).reshape(1, 3, 1, 1)) / torch.tensor(STD).reshape(1, 3, 1, 1))
    assert torch.allclose(Classifier(network, MEAN, STD)(pixels), expected, rtol=0, atol=1e-6)


# ---- heads ----------------------------------------------------------------------------------------------------------


def plain_logits(classes: int = networks.CLASSES):
    return net(lambda: networks.Net(classes))(images())


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("softmax", lambda z: z.softmax(1)),
        (None, lambda z: z.softmax(1)),
        ("sigmoid", lambda z: z.sigmoid()),
        ("regression", lambda z: z),
    ],
)
def test_probabilities(output, expected):
    classifier = Classifier(net(), output=output, memory_format=None)
    assert torch.equal(classifier.probabilities(images()), expected(plain_logits()))
    assert classifier.classes == networks.CLASSES
    assert classifier.labels is None


def test_one_logit_is_two_classes():
    classifier = Classifier(net(lambda: networks.Net(1)), memory_format=None)
    z = plain_logits(1)
    assert classifier.output == "binary"
    assert classifier.classes == 2
    assert classifier.labels == ["negative", "positive"]
    assert torch.equal(classifier(images()), torch.cat([-z, z], 1))
    assert torch.allclose(classifier.probabilities(images()).sum(1), torch.ones(3))


def test_own_labels_of_one_logit():
    assert Classifier(net(lambda: networks.Net(1)), labels=["benign", "malignant"]).labels == ["benign", "malignant"]
    with pytest.raises(BadInput, match="labels: expected 2, one per class, got 1"):
        Classifier(net(lambda: networks.Net(1)), labels=["malignant"]).outline()


@pytest.mark.parametrize("output", ["sigmoid", "regression"])
def test_one_logit_of_another_kind(output):
    classifier = Classifier(net(lambda: networks.Net(1)), output=output)
    assert classifier.classes == 1
    assert classifier(images()).shape == (3, 1)


def test_heads_that_do_not_fit():
    with pytest.raises(BadInput, match="use output='binary'"):
        Classifier(net(lambda: networks.Net(1)), output="softmax")(images())
    with pytest.raises(BadInput, match="expected one logit for binary, got 2"):
        Classifier(net(lambda: networks.Net(2)), output="binary")(images())
    for _ in range(2):
        with pytest.raises(BadInput, match="labels: expected 4, one per class, got 3"):
            _ = Classifier(net(), labels=["a", "b", "c"]).layer


ENDS = {
    "softmax": lambda z: z.softmax(1),
    "softmax written out": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "log-softmax": lambda z: z.log_softmax(1),
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_network_that_ends_in_softmax(kind):
    classifier = Classifier(net(lambda: networks.Net(end=ENDS[kind])))
    with pytest.warns(XaikitWarning, match="already ends in a (log-)?softmax") as caught:
        classifier(images())
    assert len(caught) == 1
    assert torch.allclose(classifier(images()), plain_logits().log_softmax(1), atol=1e-6)
    assert torch.allclose(classifier.probabilities(images()), plain_logits().softmax(1), atol=1e-6)


@pytest.mark.parametrize("output", [None, "sigmoid"])
@pytest.mark.parametrize("last", [torch.sigmoid, nn.Sigmoid(), lambda z: z.sigmoid()[:, :].flatten(1)])
def test_a_multi_label_network_that_ends_in_a_sigmoid(last, output):
    classifier = Classifier(net(lambda: networks.Net(end=last)), output=output)
    with pytest.warns(XaikitWarning, match="already ends in a sigmoid") as caught:
        logits = classifier(images())
    assert len(caught) == 1
    assert classifier.output == "sigmoid"
    assert torch.allclose(logits, plain_logits(), atol=1e-5)


def test_one_probability():
    classifier = Classifier(net(lambda: networks.Net(1, end=torch.sigmoid)))
    with pytest.warns(XaikitWarning, match="already ends in a sigmoid"):
        found = classifier(images())
    assert torch.allclose(found[:, 1:], plain_logits(1), atol=1e-5)


@pytest.mark.parametrize("last", [lambda z: z * 0 + 0.3, lambda z: z.sigmoid() * 0.02 + 0.1, lambda z: z.relu()])
@pytest.mark.parametrize("classes", [1, 2, networks.CLASSES])
def test_logits_that_lie_in_the_unit_interval_stay_logits(last, classes):
    network = net(lambda: networks.Net(classes, end=last))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Classifier(network, output="regression")(images())
        logits = Classifier(network)(images())
    assert torch.equal(found, logits[:, -classes:])


@pytest.mark.parametrize(
    "last",
    [
        lambda z: 0.05 + 0.9 * z.sigmoid(),
        lambda z: 0.01 + 0.95 * z.softmax(1),
        lambda z: 0.5 + 0.4 * z.clamp(-1, 1),
        lambda z: (0.5 + 0.5 * torch.tanh(z)).clamp(0.001, 0.999).sqrt(),
    ],
)
def test_outputs_that_stay_in_the_unit_interval_are_warned_of_and_taken_as_logits(last):
    network = net(lambda: networks.Net(end=lambda z: last(4 * z)))
    classifier = Classifier(network, size=8)
    with pytest.warns(XaikitWarning, match=r"stay in \[0, 1\].*taken as logits\. Return the logits"):
        found = classifier(images())
    torch.testing.assert_close(found, network(images()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier(network, size=8, output="regression")(images())


# ---- what a network returns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dict", "tuple", "object", "data parallel", "train mode"])
def test_unwrapped_outputs(kind):
    network = networks.seeded(networks.CLASSIFIERS[kind][0], torch.float32).eval()
    assert Classifier(network)(images()).shape == (3, networks.CLASSES)


@pytest.mark.parametrize("classes", [1, networks.CLASSES])
@pytest.mark.parametrize("last", [torch.squeeze, lambda z: z.squeeze(1), lambda z: z[..., None, None]])
def test_axes_of_length_one(last, classes):
    classifier = Classifier(net(lambda: networks.Net(classes, end=last)), output="regression")
    for count in (1, 3):
        expected = net(lambda: networks.Net(classes))(images(count))
        assert torch.allclose(classifier(images(count)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (lambda z: {"a": z, "b": z}, r"got a dict with \['a', 'b'\]"),
        (lambda z: "cat", "got str"),
        (lambda z: z[..., None, None].expand(-1, -1, 2, 2), r"got \(1, 4, 2, 2\)"),
        (lambda z: z.argmax(1), "torch.int64"),
        (lambda z: None, "got NoneType"),
    ],
)
def test_outputs_that_are_no_logits(last, reason):
    with pytest.raises(BadInput, match=reason):
        Classifier(net(lambda: networks.Net(end=last)))(images())


def test_grey_network():
    classifier = Classifier(net(lambda: networks.Net(channels=1)), 0.5, 0.5, size=8)
    assert classifier.channels == 1
    assert classifier.read(Image.new("RGB", (20, 10), "white")).shape == (1, 1, 8, 8)
    assert classifier(images(channels=1)).shape == (3, networks.CLASSES)


def test_bfloat16_network_gives_float32_logits():
    logits = Classifier(net(dtype=torch.bfloat16))(images())
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, plain_logits(), atol=0.02)


def test_float64_network_gives_float64_logits():
    assert Classifier(net(dtype=torch.float64))(images()).dtype == torch.float64


def test_a_network_that_cannot_run_is_one_line():
    with pytest.raises(BadInput, match=r"expected LinearNet to run on an image \(1, 3, 64, 64\).*set size=") as caught:
        _ = Classifier(networks.LinearNet()).layer
    assert "\n" not in str(caught.value)
    assert Classifier(networks.LinearNet(), size=8)(images()).shape == (3, networks.CLASSES)


@pytest.mark.parametrize("error", [ValueError, IndexError, AssertionError, NotImplementedError])
def test_whatever_a_network_raises_at_first_is_one_line(error):
    network = net(networks.Raising)
    network.error = error("some\nlines")
    with pytest.raises(BadInput, match=f"got {error.__name__}: some lines"):
        Classifier(network).outline()


def test_memory_that_runs_out_is_not_the_networks_fault():
    network = net(networks.Raising)
    network.error = torch.OutOfMemoryError("no")
    with pytest.raises(torch.OutOfMemoryError):
        Classifier(network).outline()


# ---- layers ---------------------------------------------------------------------------------------------------------


def test_no_default_layer_is_refused_with_the_layers():
    with pytest.raises(BadInput, match="found no default target layer in LinearNet; it has no layers with outputs"):
        _ = Classifier(networks.LinearNet(), size=8).layer


def test_layer_by_name_module_and_wrapped_name():
    network = networks.seeded(networks.parallel, torch.float32)
    for layer in ("conv1", "module.conv1", network.module.conv1):
        assert Classifier(network, layer=layer).layer == "conv1"
    with pytest.raises(NoSuchLayer, match="conv1"):
        Classifier(network, layer="conv7")
    network.module.alias = network.module.conv1
    assert Classifier(network, layer="alias").layer == "alias"


def test_a_child_that_is_called_module():
    network = nn.Sequential()
    network.add_module("module", net())
    assert Classifier(network, layer="module.conv1").layer == "module.conv1"


def test_layers_and_reused_default():
    classifier = Classifier(net(networks.Reused), size=8)
    assert classifier.layers() == {"conv1": (5, 8, 8), "conv2": (6, 8, 8), "relu": (6, 8, 8), "relu:1": (6, 8, 8)}
    assert classifier.layer == "relu:1"
    assert classifier.resolve_layer("relu:0").call == 0


def test_a_layer_given_by_name_is_the_output_of_that_module():
    """The ReLU that follows it belongs to the default layer alone, whose printed name is read back."""
    classifier = Classifier(net(networks.Functional), size=8)
    assert classifier.layer == "conv2 + relu"
    default = classifier.resolve_layer(None)
    assert default == classifier.resolve_layer("conv2 + relu") == classifier.resolve_layer("module.conv2 + relu")
    assert default.follow == "relu"
    for given in ("conv2", "conv1", classifier.module.conv2):
        assert classifier.resolve_layer(given).follow == ""
    assert str(classifier.resolve_layer("conv1 + relu")) == "conv1 + relu"
    with pytest.raises(NoSuchLayer):
        classifier.resolve_layer("conv3 + relu")


def test_pickled_and_copied():
    classifier = Classifier(net(), MEAN, STD, size=8, layer="conv1")
    classifier.outline()
    for other in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert torch.equal(other(images()), classifier(images()))
        assert (other.layer, other.fingerprint) == ("conv1", classifier.fingerprint)


def test_activation_bytes_grow_with_the_image():
    classifier = Classifier(net())
    for side in (8, 16):
        assert classifier.activation_bytes((side, side)) == 4 * (side * side * (5 + 6) + 2 * networks.CLASSES)


def test_fingerprint_follows_the_weights_and_the_preprocessing():
    network = net()
    classifier = Classifier(network, MEAN, STD)
    before = classifier.fingerprint
    assert before == classifier.fingerprint == Classifier(network, MEAN, STD).fingerprint
    assert before != Classifier(network).fingerprint
    with torch.no_grad():
        network.head.bias += 1
    assert before != classifier.fingerprint


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    Image.new("RGB", (10, 20), "blue").save(tmp_path / "b.png")
    (tmp_path / "c.png").write_text("no picture")
    return tmp_path


def test_read_policies(folder):
    crop = Resize("crop", (8, 8), 9)
    classifier = Classifier(net(), 0.5, size=8, resize=crop)
    path = folder / "a.png"
    assert classifier.read(path).shape == (1, 3, 8, 8)
    assert classifier.read(path, "native").shape == (1, 3, 10, 20)
    assert classifier.read([str(path), path], "squash").shape == (2, 3, 8, 8)
    assert classifier.read(iter([path])).shape == (1, 3, 8, 8)
    assert classifier.read(Image.open(path)).shape == (1, 3, 8, 8)
    padded = classifier.read(path, "pad")
    assert padded.shape == (1, 3, 8, 8)
    assert classifier.normalize(padded[:, :, [0, 1, 6, 7]]).abs().max() < 0.01  # the mean, to the nearest byte
    assert torch.equal(Classifier(net(), 0.5, size=8, resize="pad").read(path), padded)
    assert torch.equal(Classifier(net(), 0.5, size=8, resize=Resize("pad", (8, 8))).read(path), padded)
    black = Classifier(net(), 0.5, size=8, resize=Resize("pad", (8, 8), fill=(0.0,))).read(path)
    assert black[:, :, [0, 1, 6, 7]].max() == 0
    with pytest.raises(BadInput, match="expected a classifier with a size for pad"):
        Classifier(net(), 0.5, resize="pad")
    with pytest.raises(BadInput, match="resize: expected weights, squash, pad or native"):
        classifier.read(path, "stretch")
    with pytest.raises(BadInput, match="expected a classifier with a size for squash"):
        Classifier(net(), 0.5).read(path, "squash")


def test_native_sizes_that_differ_are_refused(folder):
    with pytest.raises(BadInput, match=r"b\.png: expected the first picture's size \(10, 20\), got \(20, 10\)"):
        Classifier(net(), 0.5).read([folder / "a.png", folder / "b.png"])


def test_read_each_gives_errors_in_their_place(folder):
    names = ["a.png", "c.png", "missing.png", "b.png"]
    found = list(Classifier(net(), 0.5, size=8).read_each([folder / name for name in names]))
    assert [source.name for source, _ in found] == names
    assert [isinstance(image, XaikitError) for _, image in found] == [False, True, True, False]
    assert all(str(folder / names[place]) in str(found[place][1]) for place in (1, 2))


def test_read_refuses(folder):
    classifier = Classifier(net(), 0.5, size=8)
    with pytest.raises(BadInput, match=r"c\.png"):
        classifier.read([folder / "a.png", folder / "c.png"])
    with pytest.raises(BadInput, match="got none; give paths"):
        classifier.read([])
    for source in (3, b"a.png", [None], {"pixels": torch.zeros(1, 3, 8, 8)}):
        with pytest.raises(BadInput, match="expected a path, PIL picture, NumPy array or tensor"):
            classifier.read(source)
    with pytest.raises(BadInput, match="add a batch axis"):
        classifier.read(torch.zeros(3, 8, 8))


# ---- checking -------------------------------------------------------------------------------------------------------


def test_check_takes_pixels_a_little_out_of_range_and_refuses_normalised_ones():
    classifier = Classifier(net(), MEAN, STD)
    pixels = images() * 1.3 - 0.15
    assert torch.equal(classifier.check(pixels), pixels)
    with pytest.raises(BadInput, match="give them before normalisation"):
        classifier.check(classifier.normalize(images()))
    with pytest.raises(BadInput, match="give them before normalisation"):
        classifier.check(images() * 255)


def test_check_without_mean_takes_any_range():
    assert Classifier(net()).check(images() * 255).max() > 200


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_check_refuses_what_is_not_finite(bad):
    pixels = images()
    pixels[1, 0, 3, 3] = bad
    with pytest.raises(BadInput, match="got NaN or infinity"):
        Classifier(net()).check(pixels)


def test_check_leaves_the_users_tensor_and_mode_alone():
    classifier = Classifier(net())
    with torch.inference_mode():
        pixels = images()
        checked = classifier.check(pixels)
    assert not checked.is_inference()
    pixels = images().requires_grad_(True)
    assert not Classifier(net()).check(pixels).requires_grad
    assert pixels.requires_grad


def test_a_size_the_network_cannot_take_is_one_line():
    classifier = Classifier(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)), size=8)
    assert classifier.check(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8, 8)
    with pytest.raises(BadInput, match=r"expected Sequential to run on an image \(1, 3, 10, 10\), got RuntimeError"):
        classifier.check(torch.rand(1, 3, 10, 10))


def test_batch_norm_without_statistics_is_told():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with pytest.warns(XaikitWarning, match=r"got none in '1'.*chunk_size=1"):
        Classifier(network, size=8).outline()


@pytest.mark.parametrize(
    ("network", "channels"),
    [
        (nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 4, 3)), 3),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3)), 1),
        (nn.Conv2d(5, 4, 3), 5),
        (nn.Conv2d(2, 4, 8, stride=64), 2),
        (nn.Linear(3 * 8 * 8, 4), 3),
    ],
    ids=["unshuffled", "unshuffled grey", "five bands", "two bands", "no convolution"],
)
def test_channels_are_those_that_the_network_runs_on(network, channels):
    state = torch.random.get_rng_state()
    assert Classifier(network, mean=0).channels == channels
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("memory_format", [torch.channels_last, None])
def test_a_network_that_writes_into_its_input_leaves_ours(memory_format):
    class Writing(networks.Net):
        def forward(self, x):
            return super().forward(x.sub_(0.5).div_(0.25))

    clf = Classifier(networks.seeded(Writing), size=8, memory_format=memory_format)
    inputs = networks.images().contiguous(memory_format=torch.channels_last)
    before = inputs.clone()
    first = clf.logits(inputs)
    assert torch.equal(inputs, before)
    assert torch.equal(clf.logits(inputs), first)
    clf.logits(inputs.requires_grad_(True)).sum().backward()
    assert inputs.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("network", [torch.bfloat16, torch.float32, torch.float64])
def test_pixels_get_the_networks_type_but_at_least_float32(dtype, network):
    clf = Classifier(networks.seeded(networks.Net, network), size=8)
    expected = torch.float64 if network == torch.float64 else torch.float32
    assert clf.check(torch.rand(1, 3, 8, 8).to(dtype)).dtype == expected


def test_labels_by_index_and_labels_that_are_none():
    network = networks.seeded(networks.Net, torch.float32)
    names = {2: "c", 0: "a", 1: "b", 3: "d"}
    assert Classifier(network, size=8, labels=names).labels == ["a", "b", "c", "d"]
    for labels in ("bird", 4, {"a": 0, "b": 1}):
        with pytest.raises(BadInput, match="labels: expected a name for each class, got"):
            Classifier(network, size=8, labels=labels)
    with pytest.raises(BadInput, match="resize: expected a Resize, squash, pad or native, got 'foo'"):
        Classifier(network, size=8, resize="foo")
    with pytest.raises(BadInput, match="resize: expected a Resize, squash, pad or native, got <built-in"):
        Classifier(network, size=8, resize=len)


def test_a_plain_call_refuses_what_is_no_picture():
    clf = Classifier(networks.seeded(networks.Net, torch.float32), mean=0.5, std=0.25, size=8)
    pixels = networks.images(dtype=torch.float32)
    for wrong in (pixels * 255, (pixels * 255).byte(), pixels[:, :1], pixels / 0, pixels[0]):
        with pytest.raises(BadInput, match="inputs: expected"):
            clf.probabilities(wrong)


@pytest.mark.parametrize("mixing", [lambda z: torch.cat([z, z]), lambda z: z[:, :0], lambda z: z.T])
def test_logits_that_are_not_one_row_an_image_are_refused(mixing):
    clf = Classifier(networks.seeded(lambda: networks.Net(end=mixing), torch.float32), size=8)
    with pytest.raises(BadInput, match="model: expected logits"):
        attribute(clf, networks.images(dtype=torch.float32), method="saliency")
