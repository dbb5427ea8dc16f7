"""The flags: what users should know about a map, each with one sentence of what it means and one of what to do.

    FLAGS["constant"].meaning    "The map has one value everywhere, so that it shows nothing."
    described("constant")        "constant: <meaning> <remedy>"

A plug-in whose method sets a flag of its own adds it: FLAGS["mine"] = Flag("What it means.", "What to do.").
"""

from __future__ import annotations

from typing import NamedTuple


class Flag(NamedTuple):
    """The explanation of a flag.

    Args:
        meaning: one sentence: what is true of the map.
        remedy: one sentence: what the user can do.
    """

    meaning: str
    remedy: str


FLAGS: dict[str, Flag] = {
    "against-itself": Flag(
        "The class is compared with itself, so that the score is 0 and the map shows nothing.",
        "Compare with another class; None is the runner-up.",
    ),
    "area-missed": Flag(
        "The mask of some area missed that area by more than the tolerance.",
        "Give more steps, or read the map as an approximation.",
    ),
    "class-lost": Flag(
        "Most of the networks with noisy weights give the image another class than the network itself.",
        "Lower weight_level; `class_kept` is the share of those that do not.",
    ),
    "constant": Flag(
        "The map has one value everywhere, so that it shows nothing.",
        "Try another method, layer or target; a score whose gradient is zero gives such a map.",
    ),
    "cut-gradient": Flag(
        "A part of the forward has no gradient (it rounds, detaches or leaves torch), and the map lacks what goes "
        "through it.",
        "Use a method without gradients, such as occlusion or rise.",
    ),
    "default-library": Flag(
        "No library was given, so that the references are drawn pictures, not photographs of other classes.",
        "Nothing needs to be done; for photographs, library= with a folder of labelled photographs does better.",
    ),
    "default-references": Flag(
        "No references were given, so that the image is compared with drawn pictures.",
        "Give references= pixels of typical images of your data.",
    ),
    "earlier-layer": Flag(
        "The last layer has one position at this image size, and a layer before it was read.",
        "Use larger images, or choose the layer with layer=.",
    ),
    "functional-relu": Flag(
        "The network calls ReLU as a function, which the other package does not see, and its rule is missing there.",
        "Use xaikit's own method of that name, which sees every ReLU.",
    ),
    "gradient-not-derivative": Flag(
        "The network has a backward of its own that is not the derivative of its forward.",
        "Check that backward, or use a method without gradients, such as occlusion or rise.",
    ),
    "halved": Flag(
        "Memory ran out and the batch was computed in smaller portions; values are the same up to rounding.",
        "Nothing needs to be done; a smaller chunk_size= avoids the failed attempt.",
    ),
    "incomplete": Flag(
        "The values do not add up to the difference in score that the method promises.",
        "Give more steps, or do not read the values as shares of the score; `completeness` is the gap.",
    ),
    "invalid": Flag(
        "The map has values that are not finite, and is drawn as zeros.",
        "Check the network's outputs for this image, and use float32 or float64.",
    ),
    "misplaced-grid": Flag(
        "The network crops, mirrors or rearranges the image before the layer, so that the heatmap lies elsewhere.",
        "Choose an earlier layer, or use a method that works on the input, such as occlusion.",
    ),
    "mixes-images": Flag(
        "The network mixes the images of a batch, so that the map depends on the other images in it.",
        "Explain the images one by one, with chunk_size=1.",
    ),
    "negative-activations": Flag(
        "The layer has negative activations, for which the method's weights are not defined everywhere.",
        "Choose a layer after a ReLU, or use grad-cam or hires-cam.",
    ),
    "no-reference": Flag(
        "No reference gave a map that could be used, so that the map is empty.",
        "Use a library with other references, or another layer.",
    ),
    "not-only-relu": Flag(
        "The network has nonlinear functions besides ReLU, to which the method's rule does not apply.",
        "Read the map with care, or use saliency or integrated-gradients.",
    ),
    "one-segment": Flag(
        "The image was one segment, so that the map cannot tell its parts apart.",
        "Ask for more segments, or use occlusion or rise.",
    ),
    "random-network": Flag(
        "The network draws random numbers, so that the map differs from run to run.",
        "Turn the random part off, or average the maps of several runs.",
    ),
    "relevance-lost": Flag(
        "A part of the relevance was absorbed on the way, for instance by biases or by stabilisers.",
        "Read the shares in `diagnostics`, and use another composite if they are large.",
    ),
    "remembers-images": Flag(
        "The network keeps something of the image that it saw before, so that the map depends on the order of its "
        "forwards.",
        "Reset or switch off its memory in eval mode, or read the map as one of many.",
    ),
    "stem-without-graph": Flag(
        "The network runs its first layers without a graph, so that branches around the layer are not accounted for.",
        "Remove no_grad from the network's forward if relevance may pass the layer by.",
    ),
    "unbalanced": Flag(
        "The relevance that arrived and the absorbed relevance do not add up to what was started with.",
        "Do not read the values as shares of the score, and use integrated-gradients to compare.",
    ),
}


def described(name: str) -> str:
    """Return a flag with its two sentences, or its name alone if a plug-in did not explain it."""
    flag = FLAGS.get(name)
    return name if flag is None else f"{name}: {flag.meaning} {flag.remedy}"
