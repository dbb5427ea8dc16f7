"""pytorch-grad-cam: its CAMs and its guided backpropagation.

    map = scale(resize(scale(relu(cam))))        scale(m) = (m - min m) / (max (m - min m) + 1e-7), resize linear

Included: every public class that takes a model and target layers, and the guided backpropagation. The package applies a
ReLU, scales to [0, 1] at the layer's size, resizes to the image and scales again: values (N, H, W) in [0, 1], not raw.

Guided backpropagation sees ReLU modules only; images are flagged `functional-relu` if a ReLU is a function.

Left out: DeepFeatureFactorization, which explains concepts instead of a class.
"""

import inspect
import io
import math
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xaikit.backends.foreign_method import Guest, GuestLayer, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters
from xaikit.extend import InputMethod, LayerMethod, Need, Values
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE, _DISTRIBUTION = "pytorch-grad-cam", "grad-cam"
_OURS = ("model", "target_layers", "reshape_transform", "ablation_layer", "device")
_OURS_TO_CALL = ("input_tensor", "targets", "target_idx")

theirs = guest_package("pytorch_grad_cam", _DISTRIBUTION)


@dataclass(frozen=True)
class CAM(Guest):
    """A CAM that chooses its layers itself."""

    gradients = True
    by_channel = False

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return the package's maps (n, H, W) in [0, 1], on a model whose weights require gradients."""
        model.requires_grad_(True)
        options = self.given(self.made_with)
        if "ablation_layer" in inspect.signature(self.theirs).parameters:
            options["ablation_layer"] = theirs.AblationLayer()
        if isinstance(self, GuestLayer) and self.place.grid is not None:
            self.refuse_grid("ablation_layer" in options)
            options["reshape_transform"] = self.place.to_grid
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            maps = self.run(self.theirs(model, self.layers_of(model), **options), batch.inputs.detach(), classes)
        return Values(torch.as_tensor(maps, device=batch.inputs.device))

    def layers_of(self, model: Model) -> list[nn.Module]:
        """Return the target layers for the package's class: none."""
        return []

    def run(self, cam: Any, inputs: Tensor, classes: Tensor) -> Any:
        """Return the maps of `cam` for inputs (n, C, H, W) and classes (n,)."""
        target = theirs.utils.model_targets.ClassifierOutputTarget
        return cam(inputs, [target(index) for index in classes.tolist()], **self.given(self.called_with))

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward and a backward, per patch for SESS; one more forward per channel for weights without gradients."""
        if issubclass(self.theirs, theirs.SESS):
            sess = self.given(("num_scales", "scale_step_ratio"))
            scales = (1 + step * sess["scale_step_ratio"] for step in range(sess["num_scales"]))
            patches = sum(math.ceil(scale) ** 2 for scale in scales)
            return Cost(1 + 2 * patches, patches)
        channels = self.classifier.layers()[self.place.name][0] if isinstance(self, LayerMethod) else 0
        return Cost(1 + channels * self.by_channel, 1 if self.gradients else 0)


@dataclass(frozen=True)
class LayerCAM(CAM, GuestLayer):
    """A CAM that reads one layer."""

    def layers_of(self, model: Model) -> list[nn.Module]:
        """Return the layer that is read."""
        return [model.part(self.place.name)]


@dataclass(frozen=True)
class FinerCAM(LayerCAM):
    """A CAM that compares a class with those of the most similar scores; it takes one class per call."""

    def run(self, cam: Any, inputs: Tensor, classes: Tensor) -> Any:
        """Return the maps, computed image by image."""
        options = self.given(self.called_with)
        pairs = zip(inputs[:, None], classes.tolist(), strict=True)
        return torch.cat([torch.from_numpy(cam(image, None, target_idx=index, **options)) for image, index in pairs])


@dataclass(frozen=True)
class GuidedBackpropagation(Guest, InputMethod):
    """The package's guided backpropagation, which takes one image per call."""

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return the package's values (n, C, H, W)."""
        unseen = {"functional-relu"} if model.unseen_relus(batch.inputs[:1]) else set()
        maps = []
        for image, index in zip(batch.inputs.detach()[:, None], classes.tolist(), strict=True):
            maps.append(torch.from_numpy(self.theirs(model)(image.clone(), index)).permute(2, 0, 1))
        return Values(torch.stack(maps).to(batch.inputs.device), flags=[set(unseen) for _ in maps])

    def cost(self, size: tuple[int, int]) -> Cost:
        """One forward and one backward."""
        return Cost(1, 1)


def _register(kind: Any) -> None:
    made_with, called_with = parameters(kind, _OURS), parameters(kind.__call__, _OURS_TO_CALL)
    if not called_with:
        called_with = parameters(kind.forward, _OURS_TO_CALL)
    layer = nn.Conv2d(1, 1, 1)
    gradients = getattr(kind(nn.Sequential(layer), [] if kind is theirs.FullGrad else [layer]), "uses_gradients", True)
    by_channel = not gradients and kind.get_cam_weights is not theirs.base_cam.BaseCAM.get_cam_weights
    special: dict[Any, type[CAM]] = {theirs.FullGrad: CAM, theirs.FinerCAM: FinerCAM}
    behind(
        special.get(kind, LayerCAM),
        kind,
        method_name(_PACKAGE, kind.__name__),
        _DISTRIBUTION,
        made_with,
        called_with,
        family="activation",
        signed=False,
        needs=frozenset[Need]({"gradients"} if gradients else {"activations"}),
        class_specific=gradients or by_channel,
        gradients=gradients,
        by_channel=by_channel,
        draws=kind is theirs.RandomCAM,
    )


def _is_cam(kind: Any) -> bool:
    """Return whether a class needs only a model and target layers."""
    if not inspect.isclass(kind):
        return False
    values = inspect.signature(kind).parameters.values()
    needed = [parameter.name for parameter in values if parameter.default is parameter.empty]
    return needed[:2] == ["model", "target_layers"] and set(needed[2:]) <= {"kwargs"}


for _kind in filter(_is_cam, list(vars(theirs).values())):
    _register(_kind)

behind(
    GuidedBackpropagation,
    theirs.GuidedBackpropReLUModel,
    method_name(_PACKAGE, "GuidedBackprop"),
    _DISTRIBUTION,
    {},
    {},
    family="gradient",
    needs=frozenset[Need]({"input-gradient"}),
)
