"""What of keras_pe is public: the names that its packages list in `__all__`."""

import importlib
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras_pe

# The command line is described by its own --help.
WITHOUT = ("keras_pe.cli",)
# Packages that need another one: left out where that is not installed.
NEEDS = {"keras_pe.kerashub": "keras_hub"}


@dataclass(frozen=True)
class PublicName:
    """One name of one package.

    Attributes:
        package: the package that lists it.
        name: the name in it.
        value: what it stands for.
        home: the package whose page describes it; it may be listed by several.
        home_name: its name there.
    """

    package: str
    name: str
    value: Any
    home: str
    home_name: str

    @property
    def path(self) -> str:
        """The dotted path under which it is described."""
        return f"{self.home}.{self.home_name}"

    @property
    def at_home(self) -> bool:
        """Whether this is where it is described."""
        return (self.package, self.name) == (self.home, self.home_name)

    @property
    def kind(self) -> str:
        """`"class"`, `"function"` or `"data"`."""
        if inspect.isclass(self.value):
            return "class"
        return "function" if callable(self.value) else "data"


def public_packages() -> list[ModuleType]:
    """Returns keras_pe and its packages that list public names, by name."""
    found = [keras_pe]
    for module in pkgutil.walk_packages(keras_pe.__path__, "keras_pe."):
        needed = NEEDS.get(module.name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            continue
        if module.ispkg and not module.name.startswith(WITHOUT):
            package = importlib.import_module(module.name)
            if getattr(package, "__all__", None):
                found.append(package)
    return found


def _home(value: Any, places: list[tuple[str, str]]) -> tuple[str, str]:
    """Returns the package and the name, of all that list a value, that describe it."""
    defined_in = f"{getattr(value, '__module__', '')}."
    own_name = getattr(value, "__name__", None)

    def order(place: tuple[str, str]) -> tuple[bool, bool, bool, int]:
        package, name = place
        inside = defined_in.startswith(f"{package}.")
        return (package != "keras_pe", not inside, name != own_name, -len(package))

    return min(places, key=order)


def public_names() -> dict[str, list[PublicName]]:
    """Returns the public names of each package, in alphabetical order."""
    listed = [
        (package.__name__, name, getattr(package, name))
        for package in public_packages()
        for name in package.__all__
    ]
    places: dict[int, list[tuple[str, str]]] = {}
    for package, name, value in listed:
        places.setdefault(id(value), []).append((package, name))
    names: dict[str, list[PublicName]] = {}
    for package, name, value in listed:
        home, home_name = _home(value, places[id(value)])
        public = PublicName(package, name, value, home, home_name)
        names.setdefault(package, []).append(public)
    return {
        package: sorted(of_package, key=lambda public: public.name.lower())
        for package, of_package in names.items()
    }
