"""Your own model: any torch module from images to logits is explained like a named one.

    python demos/your_own_model.py [FOLDER]

trains a small network in a few seconds to tell horizontal from vertical stripes, and shows what it looks at.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import xaikit
from xaikit.images.synthetic import draw

folder = Path(sys.argv[1] if sys.argv[1:] else "out/your_own_model")
folder.mkdir(parents=True, exist_ok=True)

torch.manual_seed(0)
features = [nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1)]
module = nn.Sequential(*features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))

# All that xaikit has to be told, and every keyword may be left out. It normalises inside: do not do so elsewhere.
labels = ["horizontal stripes", "vertical stripes"]
clf = xaikit.Classifier(module, mean=[0.5] * 3, std=[0.25] * 3, size=(64, 64), labels=labels)


def stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return drawn images of the two classes, and which it is."""
    scene = draw(count, seed)
    return scene.pixels[scene.labels < 2], scene.labels[scene.labels < 2]


images, classes = stripes(600, seed=0)
optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
for rows in torch.arange(6 * len(images)).remainder(len(images)).split(32):
    optimizer.zero_grad()
    nn.functional.cross_entropy(clf(images[rows]), classes[rows]).backward()
    optimizer.step()

images, classes = stripes(120, seed=1)
print(f"{int((clf(images).argmax(1) == classes).sum())} of {len(images)} new images are right")
print(f"layers: {', '.join(clf.layers())}; activation methods read {clf.layer} unless told otherwise")

many = xaikit.attribute_many(clf, images[:1], methods=["grad-cam", "hires-cam", "libra-cam", "occlusion"])
xaikit.plot(many).savefig(folder / "panel.png")
print(f"see {folder / 'panel.png'}")
