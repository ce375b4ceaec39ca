"""Cost of small tiles and of many of them: processor time, files and synchronizations for each tile.

    python tests/benchmarks/bench_small_tiles.py [--against SRC] [--tiles N] [--empty N]

SRC is the ``src`` folder of another version, which then runs in turn with this one. Calls of the system are counted with
``strace``, if it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
OURS = HERE.parents[1] / "src"
CALLS = ("fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "openat", "mkdir")


def run(source: Path, *arguments: object, counted: bool = False) -> dict[str, float]:
    """Run a version once in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        counting = ["strace", "-f", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"] if counted else []
        command = [*counting, sys.executable, str(HERE / "run_small_tiles.py"), folder, *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(source)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return {**result, **(counts(trace, folder) if counted else {})}


def counts(trace: Path, folder: str) -> dict[str, float]:
    """Return the calls of a kind inside the stage folder; synchronizations of a descriptor count anywhere."""
    found = {"fsyncs": 0.0, "created": 0.0, "renamed": 0.0, "removed": 0.0}
    for line in trace.read_text(errors="replace").splitlines():
        call = re.search(r"(\w+)\(", line)
        if call is None or " = -1 " in line:
            continue
        name, here = call.group(1), folder in line and "/stage" in line
        found["fsyncs"] += name in ("fsync", "fdatasync")
        found["created"] += here and name == "openat" and "O_CREAT" in line
        found["renamed"] += here and name.startswith("rename")
        found["removed"] += here and name.startswith("unlink")
    return found


def per_tile(source: Path, *shape: object) -> dict[str, float]:
    """Return calls for each tile, from two runs of which one has twice the tiles."""
    few, many = (run(source, *shape, *tiles, counted=True) for tiles in ((2, 4, 4), (4, 4, 4)))
    extra = many["tiles"] - few["tiles"]
    return {name: round((many[name] - few[name]) / extra, 2) for name in ("fsyncs", "created", "renamed", "removed")}


def in_turn(versions: dict[str, Path], repeats: int, *arguments: object) -> dict[str, dict[str, float]]:
    """Return the median of runs of each version, one after the other."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    for _ in range(repeats):
        for name, source in versions.items():
            runs[name].append(run(source, *arguments))
    return {
        name: {key: round(statistics.median(each[key] for each in found), 3) for key in found[0]}
        for name, found in runs.items()
    }


def grid_of(n: int) -> tuple[int, int, int]:
    """Return about n tiles as a grid."""
    side = round(n ** (1 / 3))
    return (max(1, round(n / side**2)), side, side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="src folder of another version")
    parser.add_argument("--tiles", type=int, nargs="*", default=[500, 4000], help="runs of this many tiles")
    parser.add_argument(
        "--empty", type=int, default=100_000, help="a run of this many tiles without objects; 0 for none"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    versions = {"before": options.against, "now": OURS} if options.against else {"now": OURS}
    if shutil.which("strace"):
        for objects in (1, 0):
            for name, source in versions.items():
                print(
                    json.dumps(
                        {"run": "calls", "objects": objects, "version": name, **per_tile(source, 32, 4, objects)}
                    )
                )
    for n in options.tiles:
        for name, row in in_turn(versions, options.repeats, 32, 4, 1, *grid_of(n)).items():
            print(json.dumps({"run": "32³, halo 4", "version": name, **row}), flush=True)
    if options.empty:
        for name, row in in_turn(versions, 1, 4, 1, 0, *grid_of(options.empty)).items():
            print(json.dumps({"run": "empty, 4³, halo 1", "version": name, **row}), flush=True)


if __name__ == "__main__":
    main()
