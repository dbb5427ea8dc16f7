"""Identity: the same thing has the same hash, another has another, in every process."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from tests import networks
from xaikit.foundation.identity import canonical_json, fingerprint, generator, generators, stream_seed
from xaikit.images.hashes import image_hashes
from xaikit.model.fingerprint import model_fingerprint


def test_canonical_json_knows_no_order_and_no_numpy():
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    assert canonical_json({"a": np.int64(3), "b": {2, 1}}) == canonical_json({"b": {1, 2}, "a": 3})


@pytest.mark.parametrize("make", [torch.zeros, np.zeros])
def test_large_arrays_differ_by_one_element(make):
    one, other = make(5000), make(5000)
    other[2500] = 1
    assert fingerprint(one) == fingerprint(make(5000))
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint(make((50, 100)))


def test_fingerprints_are_the_same_in_every_process():
    text = b'{"a":1,"b":[2.5,"c"]}'
    assert fingerprint({"b": [2.5, "c"], "a": 1}) == hashlib.sha256(text).hexdigest()[:16]
    digest = hashlib.blake2b(b"0\x1fa\x1fb", digest_size=8).digest()
    assert stream_seed(0, "a", "b") == int.from_bytes(digest, "big") // 2


def test_image_hash_is_of_uint8_pixels():
    images = networks.images(2, dtype=torch.float32)
    images = (images * 255).round() / 255
    one, other = image_hashes(images)
    assert one != other
    assert image_hashes(images + 0.3 / 255 * (images < 1)) == [one, other]
    assert image_hashes(images.flip(0)) == [other, one]
    assert image_hashes(images.to(memory_format=torch.channels_last).double()) == [one, other]
    assert image_hashes(torch.zeros(1, 1, 2, 3)) != image_hashes(torch.zeros(1, 1, 3, 2))
    assert image_hashes(images[:0]) == []


def test_images_outside_of_the_unit_range_differ():
    one, other = image_hashes(2 + 1e-4 * networks.images(2))
    assert one != other


def test_model_fingerprint_sees_weights_buffers_and_types_alone():
    network = networks.seeded(networks.Stochastic, torch.float32)
    before = model_fingerprint(network)
    assert model_fingerprint(network.to(memory_format=torch.channels_last).eval()) == before
    assert model_fingerprint(networks.seeded(networks.Stochastic, torch.bfloat16)) != before
    network.norm.num_batches_tracked += 1
    assert model_fingerprint(network) != before


def test_model_fingerprint_with_extra_state():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"scale": 2}

    assert len(model_fingerprint(Extra(2, 2))) == 16


def test_streams_depend_on_seed_content_and_purpose():
    def draw(stream):
        return torch.rand(4, generator=stream).tolist()

    base = draw(generator(0, "image", "noise"))
    assert base == draw(generator(0, "image", "noise"))
    for other in [(1, "image", "noise"), (0, "imagf", "noise"), (0, "image", "masks"), (0, "image" + "noise")]:
        assert base != draw(generator(*other))
    assert [draw(one) for one in generators(0, ["a", "b"], "p")] == [draw(generator(0, one, "p")) for one in "ab"]
