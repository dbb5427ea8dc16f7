"""One picture: what did the network see in it?

    python demos/one_image.py [FOLDER] [PICTURE]

writes the picture with the heatmap over it, and the raw values, into FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import xaikit
from xaikit.extend import described

given = [Path(argument) for argument in sys.argv[1:]]
folder = given[0] if given else Path("out/one_image")
picture = given[1] if given[1:] else Path(__file__).parent / "pictures" / "dots.png"
folder.mkdir(parents=True, exist_ok=True)

clf = xaikit.load("texture-cnn")  # for photographs "resnet50": torchvision's weights, downloaded once
pixels = clf.read(picture)  # (1, 3, 64, 64) in [0, 1]; the classifier normalises inside

found = xaikit.attribute(clf, pixels, method="libra-cam")  # explains the top class
heatmap = found.heatmap()[0]  # (64, 64) in [0, 1]

print(f"{picture.name}: {found.target_names[0]}, {100 * found.probabilities[0]:.1f} %")
row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
print(f"{found.method} at layer {found.layer} is hottest in row {row}, column {column}")
print(f"parameters: {found.params}")
for flag in sorted(found.flags[0]):
    print(described(flag))

print("\nwhat else it might be:")
probabilities = clf.probabilities(pixels)[0].detach()
for index in probabilities.argsort(descending=True)[1:4]:
    print(f"  {clf.labels[index]:20} {100 * probabilities[index]:6.2f} %")

found.overlay(0).resize((512, 512), Image.Resampling.NEAREST).save(folder / "overlay.png")
found.plot().savefig(folder / "figure.png")  # input and overlay, what is explained, what the flags mean
found.save(folder / "libra-cam.safetensors")  # xaikit.Attribution.load reads it again
print(f"\nsee {folder / 'figure.png'}")
