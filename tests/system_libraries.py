"""Run a command with what tests of the viewer need from the system: ``python tests/system_libraries.py pytest ...``.

Where napari is installed and there is xvfb, the command runs under it. On Debian or Ubuntu as root, missing
libraries are installed first; elsewhere they are named in one line, and the command runs without them. With
``--list`` it prints them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

PACKAGES = [
    *("xvfb", "xauth", "libgl1", "libegl1", "libgl1-mesa-dri", "libglib2.0-0", "libfontconfig1", "libdbus-1-3"),
    *("libxkbcommon0", "libxkbcommon-x11-0", "libxcb-cursor0", "libxcb-icccm4", "libxcb-image0", "libxcb-keysyms1"),
    *("libxcb-render-util0", "libxcb-shape0", "libxcb-xkb1"),
]
SLURM = ["slurm-wlm", "munge"]
"""For the tests of the SLURM recipes, which start it themselves and need root for that."""
SCREEN = ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24"]


def main(command: list[str]) -> int:
    """Prepare the machine if need be, run the command, and return its exit code."""
    if command == ["--list"]:
        print(" ".join(PACKAGES))
        return 0
    if sys.platform != "linux" or importlib.util.find_spec("napari") is None:
        return subprocess.call(command)
    if missing := missing_packages():
        install(missing)
    if os.geteuid() == 0 and command[0] == "pytest" and (missing := missing_packages(SLURM)):
        install(missing)
    if missing_packages() and command[0] == "pytest":
        # Without these libraries Qt cannot be loaded, and what loads it would end the whole run.
        command = [*command, "-p", "no:pytest-qt", "--ignore", "tests/widgets"]
    return subprocess.call([*SCREEN, *command] if shutil.which("xvfb-run") else command)


def missing_packages(wanted: list[str] = PACKAGES) -> list[str]:
    """The packages that dpkg does not list as installed; none where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return []
    query = ["dpkg-query", "-W", "-f", "${Status} ${Package} ${Provides}\\n"]
    installed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    # Later releases rename libraries and say so in "Provides" (libglib2.0-0t64 provides libglib2.0-0).
    names = {
        name.strip(",")
        for line in installed.splitlines()
        if line.startswith("install ok installed")
        for name in line.split()[3:]
    }
    return [package for package in wanted if package not in names]


def install(packages: list[str]) -> None:
    """Install packages with apt where this process may; say what to type where it may not."""
    if os.geteuid() != 0:
        print(f"tests of the viewer need: sudo apt-get install -y {' '.join(packages)}", file=sys.stderr)
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        # A machine without network runs the other tests all the same.
        subprocess.run(["apt-get", *words], env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
