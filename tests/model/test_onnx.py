"""A network of ONNX, run by onnxruntime, through `Classifier.from_function`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xaikit

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install onnx onnxruntime")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install onnx onnxruntime")
pytestmark = pytest.mark.slow

LABELS = ["one", "two", "three"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.fixture(scope="module")
def session(network: nn.Module) -> onnxruntime.InferenceSession:
    """The same network, written as a graph of ONNX."""
    weights = {f"w{name}": value.numpy() for name, value in network.state_dict().items()}
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["pixels", "w0.weight", "w0.bias"], ["a"]),
            node("Relu", ["a"], ["b"]),
            node("GlobalAveragePool", ["b"], ["c"]),
            node("Flatten", ["c"], ["d"]),
            node("Gemm", ["d", "w4.weight", "w4.bias"], ["logits"], transB=1),
        ],
        "network",
        [info("pixels", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [info("logits", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("method", ["occlusion", "rise", "lime", "kernel-shap"])
def test_a_session_has_the_maps_of_the_same_network(network, session, method):
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    boxed = xaikit.Classifier.from_function(
        lambda array: session.run(None, {"pixels": array})[0], LABELS, size=16, gives="logits", mean=0
    )
    own = xaikit.Classifier(network, mean=0, labels=LABELS, size=16)
    options = {"occlusion": {"window": 4, "stride": 2}, "rise": {"samples": 60}}.get(
        method, {"segments": 12, "samples": 60}
    )
    of_session, of_network = (xaikit.attribute(one, pixels, "two", method, **options) for one in (boxed, own))
    assert torch.allclose(of_session.scores, of_network.scores, atol=1e-5)
    assert (of_session.values - of_network.values).abs().max() < 1e-3 * of_network.values.abs().max()


def test_a_session_has_no_gradient_and_says_so(session):
    boxed = xaikit.Classifier.from_function(
        lambda array: session.run(None, {"pixels": array})[0], LABELS, gives="logits"
    )
    with pytest.raises(xaikit.BadInput, match="gradients"):
        xaikit.attribute(boxed, torch.rand(1, 3, 16, 16), method="saliency")
