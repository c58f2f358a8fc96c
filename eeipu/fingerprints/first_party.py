"""First-party code: what the user wrote, as opposed to Python and installed packages."""

import importlib.util
import os
import sys
import sysconfig
from functools import lru_cache, partial
from pathlib import Path
from types import FunctionType, ModuleType, WrapperDescriptorType
from typing import Any

__all__ = ["FirstParty", "is_users_file"]

_NOT_THE_USERS = [
    Path(os.path.realpath(folder))
    for folder in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        Path(__file__).parent.parent,  # eeipu itself
    )
]

_INSTALLED = {"site-packages", "dist-packages"}


class FirstParty:
    """Tells the user's own code from that of Python and of installed packages.

    A package installed in editable mode is first-party, and so is `package`: the one that the
    stage itself is in.

    Args:
        package: An installed package that counts as the user's own, or "" for none.
    """

    def __init__(self, package: str = "") -> None:
        self.package = package
        self._known: dict[str, bool] = {}

    @classmethod
    def package_of(cls, function: Any) -> str:
        """The installed package that a stage's function is in, or "" if it is in none."""
        while isinstance(function, partial):
            function = function.func
        package = (getattr(function, "__module__", None) or "").partition(".")[0]
        is_library = package in sys.stdlib_module_names or package == "eeipu"
        return "" if is_library or cls().owns(function) else package

    def owns(self, code: Any) -> bool:
        """Whether a function, a class, a module or an object's method is the user's own."""
        name = code.__name__ if isinstance(code, ModuleType) else getattr(code, "__module__", None)
        if not isinstance(name, str):
            return True  # made by exec, without a module
        if isinstance(code, type) and _is_of_c(code) and not _has_file(name):
            # It does not say which module it is from, or names one that was made for it, as the
            # types that all modules of one version of Cython share.
            return False
        if name not in self._known:
            self._known[name] = self._owns_module(name)
        return self._known[name]

    def _owns_module(self, name: str) -> bool:
        package = name.partition(".")[0]
        if name == "__main__" or package == self.package:
            return True
        module = sys.modules.get(name) or sys.modules.get(package)
        file = getattr(module, "__file__", None)
        if file is None:
            return package not in sys.stdlib_module_names
        return is_users_file(file)

    def owns_by_name(self, name: str) -> bool:
        """Whether a module is the user's own. It need not have been imported yet."""
        package = name.partition(".")[0]
        if package == self.package or package in sys.modules:
            return self._owns_module(name)
        spec = importlib.util.find_spec(package)
        if spec is None:
            return False
        files = [spec.origin, *(spec.submodule_search_locations or ())]
        return any(is_users_file(each) for each in files if each and Path(each).exists())


def _has_file(name: str) -> bool:
    return getattr(sys.modules.get(name), "__file__", None) is not None


def _is_of_c(code: type) -> bool:
    members = list(map(type, vars(code).values()))
    return WrapperDescriptorType in members and FunctionType not in members


@lru_cache(maxsize=4096)  # asked for at each look, and files of modules stay what they are
def is_users_file(file: str) -> bool:
    """Whether a file, or a folder, is not that of Python or of an installed package."""
    # By the file and not by the name: the user's module may have the name of one of Python's.
    path = Path(os.path.realpath(file))
    is_installed = not _INSTALLED.isdisjoint(Path(file).parts) or _is_recorded(path)
    return not is_installed and not any(map(path.is_relative_to, _NOT_THE_USERS))


def _is_recorded(path: Path) -> bool:
    """Whether pip has put a file where it is: it may install into any folder (`--target`)."""
    return any(
        inner in _installed_in(folder)
        for folder, inner in zip(path.parents, (path, *path.parents), strict=False)
    )


@lru_cache(maxsize=1024)
def _installed_in(folder: Path) -> frozenset[Path]:
    """The packages and modules that pip has installed into a folder.

    An editable installation has its record in another folder.
    """
    try:
        records = [each / "RECORD" for each in folder.iterdir() if each.suffix == ".dist-info"]
    except OSError:
        return frozenset()
    texts = [each.read_text("utf-8", "replace") for each in records if each.is_file()]
    lines = [line for text in texts for line in text.splitlines()]
    names = {line.partition(",")[0].partition("/")[0] for line in lines}
    return frozenset(folder / name for name in names - {"", ".", ".."})
