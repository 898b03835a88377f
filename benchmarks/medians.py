"""Memory of UnitMem's form against the median, by number of images: the table of mu is on the disk, a block in memory.

    python benchmarks/medians.py                                            # to 50 000 images x 4096 units: 2 minutes
    python benchmarks/medians.py --images 1000 2000 --units 256

For each number of images a process of its own writes a table, finds every unit's median and the curve by number of
images, and looks at its anonymous memory (what pages of the file it has mapped is the page cache's, and is given back
when somebody needs it). Beside it what one layer's columns would take as float32. Expected: flat, below 500 MB.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch

from memlight.analyses.unitmem.resume import MuTable, rest_medians
from memlight.analyses.unitmem.tables import unitmem_curve
from memlight.metrics.unitmem import UnitMemResult
from memlight.storage.store import RowsFile

CHUNK = 1000


def anonymous() -> int:
    """Bytes of this process that no file stands behind."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def peak_while(stop: Event, peak: list[int]) -> None:
    """Note the largest `anonymous` until told to stop."""
    while not stop.wait(0.005):
        peak[0] = max(peak[0], anonymous())


def measure(images: int, units: int) -> None:
    """Print a line for one table."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mu.npy"
        with RowsFile(path, (images, units), "float32") as file:
            for start in range(0, images, CHUNK):
                file.append(generator.random((min(CHUNK, images - start), units), dtype=np.float32))
        table, before, peak, stop = MuTable([path]), anonymous(), [0], Event()
        watch = Thread(target=peak_while, args=(stop, peak))
        watch.start()
        begun = time.perf_counter()
        medians = rest_medians(table, torch.device("cpu"))
        top, total = torch.ones(2, 10, units, dtype=torch.float64), medians * images
        result = UnitMemResult(top, total, torch.arange(images), topk=10)
        unitmem_curve({"layer": result}, [images // 4, images], columns=table.columns)
        seconds = time.perf_counter() - begun
        stop.set()
        watch.join()
    columns = 4 * images * units
    print(f"{images:7} {units:6} {columns / 1e6:12.0f} {(peak[0] - before) / 1e6:14.0f} {seconds:8.1f}", flush=True)


def main() -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000, 10_000, 25_000, 50_000])
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.units)
        return
    print(" images  units  columns, MB  anonymous, MB  seconds", flush=True)
    for images in options.images:
        subprocess.run([sys.executable, __file__, "--one", str(images), "--units", str(options.units)], check=True)


if __name__ == "__main__":
    main()
