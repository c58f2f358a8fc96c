"""The circumstances of a result: versions of packages, digests of the code, and the hardware."""

import hashlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

__all__ = ["code", "code_of_stages", "hardware", "versions"]

# The packages that influence results.
PACKAGES = (
    "eeipu",
    "botorch",
    "catboost",
    "datasets",
    "gpytorch",
    "numpy",
    "optuna",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "torch",
    "transformers",
    "xgboost",
    "xgboost-cpu",
)


def versions() -> dict[str, str]:
    """The versions of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code() -> str:
    """A digest of all sources and data of `eeipu`."""
    return _digest(Path(__file__).parents[2])


def code_of_stages() -> str:
    """A digest of the sources and data of the benchmarks and of the versions of all packages."""
    return _digest(Path(__file__).parents[1], *(f"{name} {v}" for name, v in versions().items()))


def _digest(folder: Path, *texts: str) -> str:
    found = hashlib.sha256(repr(texts).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            found.update(f"{path.relative_to(folder)}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:12]


def hardware() -> dict[str, object]:
    """A description of the machine, without anything that identifies its owner."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(Path("/proc/cpuinfo")),
        "cores": os.cpu_count(),
        "threads": _threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": _gpu(),
    }


def _processor(cpuinfo: Path) -> str:
    """The name of the processor, which only Linux provides in a file."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _threads() -> int | None:
    """The number of threads that a stage may use; `None` if torch is not loaded."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_num_threads()


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    name: str = torch.cuda.get_device_name()
    return name
