"""Which method explains this network best? Measured on images whose evidence is known to the pixel.

    python demos/compare_methods.py [FOLDER]

prints one line a method, and writes the same as FOLDER/comparison.csv. The last two explain nothing: a figure that does
not tell the others from these says nothing about the others.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch

import xaikit
from xaikit.images.synthetic import draw

folder = Path(sys.argv[1] if sys.argv[1:] else "out/compare_methods")
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # quicker for so small a network

clf = xaikit.load("texture-cnn", device="cpu")
scene = draw(24, seed=1)  # pixels, labels, and masks of the object that carries the class
other = draw(120, seed=2)
library = xaikit.build_library(clf, [(other.pixels, other.labels)])  # what libra-cam compares with

methods = ["grad-cam", "hires-cam", "libra-cam", "saliency", "integrated-gradients", "center", "ones"]
params = {"libra-cam": {"library": library}, "integrated-gradients": {"steps": 20}}
many = xaikit.attribute_many(clf, scene.pixels, methods=methods, params=params)  # shared passes

rows = []
for name, found in many.items():
    maps = found.heatmap()
    soft = xaikit.keep_curve(clf, scene.pixels, maps, found.target, mask="soft")
    binary = xaikit.keep_curve(clf, scene.pixels, maps, found.target, mask="binary")
    on_object = (maps * scene.objects).sum((1, 2)) / maps.sum((1, 2))
    row = {
        "APD (low)": soft.apd()[0],  # at t = 0: the image times the map, nothing removed
        "IR (high)": soft.ir()[0],
        "soft area": soft.auc().mean(),
        "binary area": binary.auc().mean(),  # blind to how bright a map is
        "on object": on_object.mean(),  # share of the map on the evidence
    }
    rows.append({"method": name} | {key: f"{value:.3f}" for key, value in row.items()})

for row in [{key: key for key in rows[0]}, *rows]:
    print(" ".join(f"{cell:<20}" if key == "method" else f"{cell:>12}" for key, cell in row.items()))
with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
print(f"\nsee {folder / 'comparison.csv'}")
