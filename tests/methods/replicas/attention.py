"""Methods of attention, derived a second time: the network is written out again, with every attention as a tensor."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from tests.methods.replicas import close, replicates
from tests.methods.small import classifier
from tests.networks import images
from xaikit.methods.base import METHODS


def unrolled(network: Any, x: Tensor, blocks: int = 3) -> tuple[list[Tensor], Tensor]:
    """Return the attention weights of the first blocks of `Tokens`, and the logits if these are all there are."""
    patches = network.embed(x).flatten(2).transpose(1, 2)[:, network.order]
    before, after = (part.expand(len(x), -1, -1) for part in (network.before, network.after))
    tokens = torch.cat([before, patches, after], 1) + network.position
    weights = []
    for block in network.blocks[:blocks]:
        query, key, value = block.attention.qkv(block.norm1(tokens)).chunk(3, 2)
        heads = []
        for q, k, v in zip(query.chunk(2, 2), key.chunk(2, 2), value.chunk(2, 2), strict=True):
            scores = torch.einsum("nti,nsi->nts", q, k) / q.shape[2] ** 0.5
            heads.append((scores.exp() / scores.exp().sum(2, keepdim=True), v))
        weights.append(torch.stack([shares for shares, _ in heads], 1))
        mixed = torch.cat([weights[-1][:, i] @ v for i, (_, v) in enumerate(heads)], 2)
        tokens = tokens + block.attention.proj(mixed)
        tokens = tokens + block.mlp(block.norm2(tokens))
    tokens = network.norm(tokens)
    first, last = network.before.shape[1], network.before.shape[1] + patches.shape[1]
    read = {"class": slice(0, 1), "both": slice(0, 2), "mean": slice(first, last)}[network.reads]
    return weights, network.head(tokens[:, read].mean(1))


def on_grid(network: Any, values: Tensor) -> Tensor:
    """Return values (n, T) of all tokens as maps (n, h, w)."""
    first, (h, w) = network.before.shape[1], network.grid
    maps = torch.zeros(len(values), h * w, dtype=values.dtype)
    maps[:, network.order] = values[:, first : first + h * w]
    return maps.reshape(-1, h, w)


def mean_row(network: Any, flow: Tensor) -> Tensor:
    """Return the mean row (n, T) of the tokens that the head reads, of matrices (n, T, T)."""
    first, count = network.before.shape[1], network.grid[0] * network.grid[1]
    rows = {"class": [0], "both": [0, 1], "mean": range(first, first + count)}[network.reads]
    return torch.stack([flow[:, row] for row in rows]).mean(0)


def rollout(network: Any, x: Tensor, fusion: str = "mean") -> Tensor:
    """Return the product of whole matrices, from the first layer on."""
    weights, _ = unrolled(network, x)
    total = torch.eye(weights[0].shape[-1], dtype=x.dtype).expand(len(x), -1, -1)
    for layer in weights:
        fused = {"mean": layer.mean(1), "max": layer.max(1)[0], "min": layer.min(1)[0]}[fusion]
        share = 0.5 * fused + 0.5 * torch.eye(fused.shape[-1], dtype=x.dtype)
        total = torch.bmm(share / share.sum(2, keepdim=True), total)
    return on_grid(network, mean_row(network, total))


def generic(network: Any, x: Tensor, index: int) -> Tensor:
    """Return the sum over all choices of layers of the product of their gains, the identity left out."""
    weights, logits = unrolled(network, x)
    gradients = torch.autograd.grad(logits[:, index].sum(), weights)
    gains = [(g * a).clamp_min(0).mean(1) for g, a in zip(gradients, weights, strict=True)]
    total = torch.zeros_like(gains[0])
    for count in (1, 2, 3):
        for chosen in combinations(gains, count):
            path = chosen[-1]
            for gain in chosen[-2::-1]:
                path = path @ gain
            total = total + path
    return on_grid(network, mean_row(network, total))


def le_grad(network: Any, x: Tensor, index: int) -> Tensor:
    """Return the mean over the networks that end after one block, two blocks, and so on."""
    layers = []
    for blocks in (1, 2, 3):
        weights, logits = unrolled(network, x, blocks)
        (gradient,) = torch.autograd.grad(logits[:, index].sum(), weights[-1])
        layers.append(gradient.clamp_min(0).sum((1, 2)) / gradient.shape[1] / gradient.shape[2])
    return on_grid(network, torch.stack(layers).mean(0))


def held(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Return the outputs as a multiple of the inputs, whose factor is a constant."""
    return inputs * (outputs / inputs).detach()


def halved(factor: Tensor) -> Tensor:
    """Return a factor of a product whose gradient is half."""
    return (factor + factor.detach()) / 2


def with_constants(network: Any, x: Tensor) -> Tensor:
    """Return the logits of a forward in which the gradient times the input is AttnLRP with rule epsilon."""
    patches = network.embed(x).flatten(2).transpose(1, 2)[:, network.order]
    tokens = torch.cat([network.before.expand(len(x), -1, -1), patches], 1) + network.position
    for block in network.blocks:
        heads = []
        query, key, value = block.attention.qkv(held(tokens, block.norm1(tokens))).chunk(3, 2)
        for q, k, v in zip(query.chunk(2, 2), key.chunk(2, 2), value.chunk(2, 2), strict=True):
            scores = halved(q) @ halved(k).transpose(1, 2) / q.shape[2] ** 0.5
            heads.append(halved(scores.softmax(2)) @ halved(v))
        tokens = tokens + block.attention.proj(torch.cat(heads, 2))
        hidden = block.mlp[0](held(tokens, block.norm2(tokens)))
        tokens = tokens + block.mlp[2](held(hidden, block.mlp[1](hidden)))
    return network.head(held(tokens, network.norm(tokens))[:, 0])


@replicates("attn-lrp")
def _input_times_gradient_with_factors_held() -> None:
    clf, x = classifier("attn-lrp"), images(3)
    inputs = x.clone().requires_grad_(True)
    for index in (0, 2):
        score = with_constants(clf.network, inputs)[:, index]
        (gradient,) = torch.autograd.grad(score.sum(), inputs)
        found = METHODS.get("attn-lrp")(clf, gamma=0, epsilon=0).attribute(x, index)
        close(found, (x * gradient).sum(1))
        parts = ("bias", "stabiliser", "dead", "bypass")
        absorbed = torch.stack([found.diagnostics[f"absorbed_{part}"] for part in parts]).sum(0)
        close(found.values.sum((1, 2)) + absorbed, score)


@replicates("attention-rollout")
def _whole_matrices_from_the_first_layer_on() -> None:
    clf, x = classifier("attention-rollout"), images(3)
    for fusion in ("mean", "max", "min"):
        found = METHODS.get("attention-rollout").build(clf, fusion=fusion).attribute(x)
        close(found, rollout(clf.network, x, fusion))


@replicates("generic-attention")
def _sum_over_the_paths_through_the_layers() -> None:
    clf, x = classifier("generic-attention"), images(3)
    for index in (0, 2):
        close(METHODS.get("generic-attention")(clf).attribute(x, index), generic(clf.network, x, index))


@replicates("le-grad")
def _networks_that_end_after_each_block() -> None:
    clf, x = classifier("le-grad"), images(3)
    for index in (0, 2):
        close(METHODS.get("le-grad")(clf).attribute(x, index), le_grad(clf.network, x, index))


def z_plus(layer: torch.nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
    """Share the relevance of a linear layer's outputs by positive contributions, without the bias."""
    up, down = x.clamp_min(0), x.clamp_max(0)
    plus, minus = layer.weight.clamp_min(0), layer.weight.clamp_max(0)
    ratio = relevance / (up @ plus.T + down @ minus.T)
    return up * (ratio @ plus) + down * (ratio @ minus)


def summed(first: Tensor, second: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Share the relevance of a sum as the paper says; of constants, which are zero here, the other has it all."""
    shares = [part / (first + second) * relevance for part in (first, second)]
    total = relevance.sum((1, 2), keepdim=True)
    sums = [share.sum((1, 2), keepdim=True) for share in shares]
    weight = sums[0].abs() + sums[1].abs()
    return tuple(share * (own.abs() / weight) * (total / own) for share, own in zip(shares, sums, strict=True))


def backwards(network: Any, x: Tensor, index: int) -> list[Tensor]:
    """Return the relevance of the attention weights of `Tokens`, by a forward that keeps all values and a walk back."""
    patches = network.embed(x).flatten(2).transpose(1, 2)[:, network.order]
    before = network.before.expand(len(x), -1, -1)
    tokens, kept = torch.cat([before, patches], 1) + network.position, []
    for number, block in enumerate(network.blocks):
        normed = block.norm1(tokens)
        query, key, value = (
            part.unflatten(2, (2, -1)).transpose(1, 2) for part in block.attention.qkv(normed).chunk(3, 2)
        )
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        mixed = scores.softmax(3) @ value
        joined = mixed.transpose(1, 2).flatten(2)
        out = block.attention.proj(joined)
        skip = tokens.clone()
        if number == 0:
            skip[:, : before.shape[1]] = 0  # constants
        middle = tokens + out
        acted = block.mlp[:2](block.norm2(middle))
        after = block.mlp[2](acted)
        kept.append((block, normed, query, key, value, scores, mixed, joined, skip, out, middle, acted, after))
        tokens = middle + after
    normed = network.norm(tokens)
    relevance = torch.zeros_like(tokens)
    start = torch.zeros(len(x), network.head.out_features, dtype=x.dtype)
    start[:, index] = 1
    relevance[:, 0] = z_plus(network.head, normed[:, 0], start)
    found = []
    for block, normed, query, key, value, scores, mixed, joined, skip, out, middle, acted, after in kept[::-1]:
        kept_by_middle, of_mlp = summed(middle, after, relevance)
        of_mlp = z_plus(block.mlp[0], block.norm2(middle), z_plus(block.mlp[2], acted, of_mlp))
        relevance, of_attention = summed(skip, out, kept_by_middle + of_mlp)
        of_mixed = z_plus(block.attention.proj, joined, of_attention).unflatten(2, (2, -1)).transpose(1, 2)
        weights = scores.softmax(3)
        of_weights = weights * (of_mixed / (2 * mixed) @ value.transpose(2, 3))
        of_value = value * (weights.transpose(2, 3) @ (of_mixed / (2 * mixed)))
        found.append(of_weights)
        of_query = query * (of_weights / (2 * scores) @ key) / query.shape[3] ** 0.5
        of_key = key * ((of_weights / (2 * scores)).transpose(2, 3) @ query) / query.shape[3] ** 0.5
        joint = torch.cat([part.transpose(1, 2).flatten(2) for part in (of_query, of_key, of_value)], 2)
        relevance = relevance + z_plus(block.attention.qkv, normed, joint)
    return found[::-1]


@replicates("transformer-attribution")
def _relevance_by_a_walk_back_with_all_values_kept() -> None:
    clf, x = classifier("transformer-attribution"), images(3)
    for index in (0, 2):
        weights, logits = unrolled(clf.network, x)
        gradients = torch.autograd.grad(logits[:, index].sum(), weights)
        total = torch.eye(weights[0].shape[-1], dtype=x.dtype).expand(len(x), -1, -1)
        for gradient, relevance in zip(gradients, backwards(clf.network, x, index), strict=True):
            gain = (gradient * relevance).clamp_min(0).mean(1)
            total = total + gain @ total
        found = METHODS.get("transformer-attribution")(clf).attribute(x, index)
        close(found, on_grid(clf.network, mean_row(clf.network, total)), 1e-6)
