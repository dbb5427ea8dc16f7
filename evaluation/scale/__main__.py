"""Cost of one picture in an explain run, at growing numbers of pictures.

    python -m evaluation.scale 100 10000 100000

Each number runs in a process of its own, on drawn pictures of 64 px, by grad-cam on texture-cnn, without panels, after
one picture that is not measured. Printed: processor and wall-clock time a picture, from the folder to results.json, and
peak memory of the process.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

_DRAWN = 500  # pictures drawn at once


def write_pictures(folder: Path, count: int) -> None:
    """Write pictures to folders of a thousand."""
    from xaikit.images.reading import to_picture
    from xaikit.images.synthetic import draw

    for start in range(0, count, _DRAWN):
        for place, pixels in enumerate(draw(min(_DRAWN, count - start), seed=5, start=start).pixels, start):
            file = folder / f"{place // 1000:04}" / f"{place:06}.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(to_picture(pixels)).save(file)


def explain(folder: str, output: str) -> None:
    """Explain a folder and print one line of its cost."""
    import xaikit

    classifier = xaikit.load("texture-cnn", device="cpu")
    first = next(Path(folder).rglob("*.png"))
    xaikit.explain_files(classifier, first, "grad-cam", f"{output}-first", pictures=False, progress=False)
    begin, wall = time.process_time(), time.perf_counter()
    result = xaikit.explain_files(classifier, folder, "grad-cam", output, pictures=False, progress=False)
    cpu, seconds = time.process_time() - begin, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    per = 1000 / result.done
    sys.stdout.write(f"{result.done:>9,} {cpu * per:>12.2f} {seconds * per:>12.2f} {peak:>10.0f}\n")


def main(counts: list[int]) -> None:
    """Measure each number of pictures."""
    sys.stdout.write(f"{'pictures':>9} {'CPU ms each':>12} {'wall ms each':>12} {'peak MiB':>10}\n")
    for count in counts:
        with TemporaryDirectory() as place:
            pictures = Path(place) / "pictures"
            pictures.mkdir()
            write_pictures(pictures, count)
            sys.stdout.flush()
            subprocess.run([sys.executable, "-m", "evaluation.scale", str(pictures), f"{place}/out"], check=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    if all(argument.isdigit() for argument in given):
        main([int(argument) for argument in given] or [100, 10_000, 100_000])
    else:
        explain(*given)
