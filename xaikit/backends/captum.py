"""captum: its attributions of a class to the input or to a layer.

    values = attribute(inputs, target=classes)       (n, C, H, W), or (n, C, h, w) at a layer; then reduced to a channel

Included: every public attribution that needs only a model and a layer, and NoiseTunnel around the gradient. captum's
values are reduced over channels: by their sum, by their mean where features span all channels, and by the largest
absolute value for saliency. captum's convergence delta, if any, is in `completeness`; DeepLIFT is flagged `incomplete`
where the delta exceeds 1 % of the difference that the values should sum to.

Defaults for parameters that captum leaves open, or sets too slow for images:
    perturbations_per_eval, internal_batch_size    as many as one portion holds; one at a time for layer ablation
    feature_mask                                   7 x 7 squares over all channels; 2 x 2 for exact Shapley values
    layer_mask                                     one feature per position
    sliding_window_shapes, strides                 a seventh of the short side, and half of it
    baselines                                      zero, the mean colour; synthetic images if several are required
Networks that add or multiply activations are refused for LRP, which would double or lose relevance there. Guided
backpropagation and deconvolution see ReLU modules only; images are flagged `functional-relu` if a ReLU is a function.

Left out: attributions to a neuron, permutations across a batch of images, and those for text or data loaders.
"""

import inspect
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from xaikit.backends.default_features import positions, squares, windows
from xaikit.backends.foreign_method import Guest, GuestLayer, Model
from xaikit.backends.generated_methods import behind, guest_package, method_name, parameters, required
from xaikit.extend import Family, InputMethod, Need, Values
from xaikit.foundation.errors import BadInput
from xaikit.images.references import draw_references
from xaikit.run.attribution import Reduction
from xaikit.run.batch import Batch
from xaikit.run.cost import Cost

_PACKAGE = _DISTRIBUTION = "captum"
_MODEL = ("forward_func", "model", "layer", "device_ids")
_CALL = ("inputs", "target", "additional_forward_args", "return_convergence_delta", "show_progress", "verbose")
_REFERENCES = 8
_GAP = 0.01
theirs = guest_package("captum.attr", _DISTRIBUTION)
_DRAWING = (theirs.LimeBase, theirs.GradientShap, theirs.LayerGradientShap)
_GUIDED = (theirs.GuidedBackprop, theirs.Deconvolution, theirs.GuidedGradCam)


@dataclass(frozen=True)
class Captum(Guest):
    """An attribution of captum."""

    reduction: ClassVar[Reduction] = "sum"
    squares: ClassVar[int] = 7

    def explain(self, model: Model, batch: Batch, classes: Tensor) -> Values:
        """Return captum's values (n, C, H, W) or (n, h, w), with the convergence delta.

        Raises:
            BadInput: LRP on a network that adds or multiplies activations.
        """
        if issubclass(self.theirs, theirs.LRP) and (mixes := model.mixes(batch.inputs[:1])):
            raise BadInput(
                f"{self.name}: expected a network without sums and products of activations, got {mixes} of them in "
                f"{self.classifier.name}, where captum's relevance is not conserved; use another method"
            )
        algorithm = self.algorithm(model)
        options = self.given(self.called_with, **self._defaults(batch))
        if self.class_specific:
            options["target"] = classes
        has_delta = "return_convergence_delta" in inspect.signature(inspect.unwrap(algorithm.attribute)).parameters
        if has_delta:
            options["return_convergence_delta"] = True
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"captum\.")
            warnings.filterwarnings("ignore", "Setting (forward, )?backward hooks", UserWarning)
            result = algorithm.attribute(batch.inputs.detach().requires_grad_(True), **options)
        values, delta = result if has_delta else (result, None)
        if delta is not None:
            delta = delta.detach().reshape(len(batch), -1).mean(1)
        flags = self._flags(values.detach().flatten(1), delta)
        if issubclass(self.theirs, _GUIDED) and model.unseen_relus(batch.inputs[:1]):
            flags = [{"functional-relu"} for _ in range(len(batch))]
        return Values(self.one_channel(values.detach()), completeness=delta, flags=flags)

    def algorithm(self, model: Model) -> Any:
        """Return captum's attribution object for a model."""
        return self.theirs(model, **self.given(self.made_with))

    def one_channel(self, values: Tensor) -> Tensor:
        """Return the values that `compute` returns."""
        return values

    def cost(self, size: tuple[int, int]) -> Cost:
        """A forward per step, sample, window or square and, for gradients, a backward."""
        counts = (getattr(self, name, None) for name in ("n_steps", "nt_samples", "n_samples"))
        passes = next((count for count in counts if count), 1)
        if hasattr(self, "sliding_window_shapes"):
            (_, window, _), (_, stride, _) = windows(1, size)
            passes *= math.prod(1 + math.ceil((side - window) / stride) for side in size)
        elif hasattr(self, "feature_mask") and not issubclass(self.theirs, theirs.LimeBase):
            passes *= self.squares**2
        if issubclass(self.theirs, theirs.ShapleyValues):
            passes *= math.factorial(self.squares**2)
        if issubclass(self.theirs, theirs.DeepLift):
            passes *= 2 * (_REFERENCES if issubclass(self.theirs, theirs.DeepLiftShap) else 1)
        return Cost(1 + passes, passes if any("gradient" in need for need in self.needs) else 0)

    def _flags(self, values: Tensor, delta: Tensor | None) -> list[set[str]]:
        """Flag images whose DeepLIFT values miss their sum: captum sees neither functional ReLUs nor all poolings."""
        if delta is None or not issubclass(self.theirs, theirs.DeepLift):
            return []
        incomplete = delta.abs() > _GAP * (values.sum(1) - delta).abs()
        return [{"incomplete"} if flagged else set() for flagged in incomplete.tolist()]

    def _defaults(self, batch: Batch) -> dict[str, Any]:
        """Return the values of parameters that are None."""
        portion = max(batch.context.portion(self.classifier, batch.size), len(batch))
        channels = batch.inputs.shape[1]
        window, stride = windows(channels, batch.size)
        defaults = {
            "perturbations_per_eval": portion // len(batch),
            "internal_batch_size": 2 * portion,
            "feature_mask": squares(batch.size, self.squares).to(batch.inputs.device),
            "sliding_window_shapes": window,
        }
        if getattr(self, "sliding_window_shapes", None) is None:
            defaults["strides"] = stride
        if "baselines" in required(self.theirs.attribute):
            references = draw_references(_REFERENCES, channels, batch.size).to(batch.inputs)
            defaults["baselines"] = self.classifier.normalize(references)
        return defaults


@dataclass(frozen=True)
class InputCaptum(Captum, InputMethod):
    """An attribution to the input."""


@dataclass(frozen=True)
class LayerCaptum(Captum, GuestLayer):
    """An attribution to a layer, or one that uses a layer."""

    def algorithm(self, model: Model) -> Any:
        """Return captum's attribution object for a model and the layer."""
        self.refuse_grid(issubclass(self.theirs, theirs.LayerGradCam | theirs.GuidedGradCam))
        return self.theirs(model, model.part(self.place.name), **self.given(self.made_with))

    def one_channel(self, values: Tensor) -> Tensor:
        """Return the sum or mean of the values over channels, (n, h, w).

        Raises:
            BadInput: the layer has no grid.
        """
        values = self.place.to_grid(values)
        return values.mean(1) if self.reduction == "mean" else values.sum(1)

    def cost(self, size: tuple[int, int]) -> Cost:
        """The cost for the input; for ablation, a forward per position of the layer."""
        if issubclass(self.theirs, theirs.LayerFeatureAblation):
            _, down, across = self.classifier.outline(size).layers[self.place.name]
            return Cost(2 + down * across, 0)
        return super().cost(size)

    def _defaults(self, batch: Batch) -> dict[str, Any]:
        defaults = super()._defaults(batch)
        if issubclass(self.theirs, theirs.LayerFeatureAblation):
            _, down, across = batch.activations(self.place).shape[1:]
            mask = positions(down, across).to(batch.inputs)
            if self.place.grid is not None:  # what has no position is one more feature
                rest = mask.new_full((1, *self.place.grid.shape), down * across)
                mask = self.place.changed(rest, lambda maps: mask.expand_as(maps))
            mask = mask.long()
            defaults |= {"layer_mask": mask, "perturbations_per_eval": 1}
        return defaults


@dataclass(frozen=True)
class NoiseTunnel(InputCaptum):
    """captum's noise tunnel around its signed gradient: SmoothGrad, its square or VarGrad, by `nt_type`."""

    def algorithm(self, model: Model) -> Any:
        """Return captum's noise tunnel for a model."""
        return self.theirs(theirs.Saliency(model))


def _attributions() -> Iterator[Any]:
    """Yield captum's classes that explain a class of an image given only a model and a layer."""
    for kind in (getattr(theirs, name) for name in theirs.__all__):
        if not (
            inspect.isclass(kind)
            and issubclass(kind, theirs.Attribution)
            and callable(getattr(kind, "attribute", None))
        ):
            continue
        if issubclass(kind, theirs.NeuronAttribution | theirs.FeaturePermutation):
            continue
        if set(required(kind.__init__)) <= set(_MODEL):
            yield kind


def _family(kind: Any) -> Family:
    if issubclass(kind, theirs.LayerAttribution):
        return "activation"
    if issubclass(kind, theirs.LRP):
        return "decomposition"
    return "perturbation" if issubclass(kind, theirs.PerturbationAttribution) else "gradient"


def _register(kind: Any) -> None:
    by_layer = "layer" in inspect.signature(kind).parameters
    perturbs = issubclass(kind, theirs.PerturbationAttribution)
    called_with = parameters(kind.attribute, _CALL)
    called_with |= {name: None for name in ("perturbations_per_eval",) if name in called_with}
    gradients: Need = "gradients" if by_layer else "input-gradient"
    behind(
        LayerCaptum if by_layer else InputCaptum,
        kind,
        method_name(_PACKAGE, kind.__name__),
        _DISTRIBUTION,
        parameters(kind, _MODEL),
        called_with,
        family=_family(kind),
        signed=kind is not theirs.Saliency,
        class_specific="target" in inspect.signature(inspect.unwrap(kind.attribute)).parameters,
        needs=frozenset[Need](() if perturbs or kind is theirs.LayerActivation else (gradients,)),
        draws=issubclass(kind, _DRAWING),
        reduction="max-abs" if kind is theirs.Saliency else "mean" if perturbs else "sum",
        **({"squares": 2} if kind is theirs.ShapleyValues else {}),
    )


for _kind in _attributions():
    _register(_kind)

behind(
    NoiseTunnel,
    theirs.NoiseTunnel,
    method_name(_PACKAGE, "NoiseTunnel"),
    _DISTRIBUTION,
    {},
    parameters(theirs.NoiseTunnel.attribute, _CALL) | {"abs": False},
    family="gradient",
    draws=True,
    needs=frozenset[Need]({"input-gradient"}),
)
