"""How many public names have an example that runs: `python -m benchmarks.documented`.

Counts classes and functions that the packages list in `__all__`, each once, and prints
those whose docstring has no line of an example that names them and is not skipped. The
examples themselves run with the tests (`tests/test_docs.py`).
"""

import argparse
import doctest
import importlib
import importlib.util
import inspect
import pkgutil

import keras_pe

# A package that needs another one: left out where that is not installed.
NEEDS = {"keras_pe.kerashub": "keras_hub"}


def public_values() -> dict[str, object]:
    """Returns the public classes and functions, by where they are listed first."""
    packages = [keras_pe]
    packages += [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(keras_pe.__path__, "keras_pe.")
        if module.ispkg
        and not module.name.startswith("keras_pe.cli")
        and (
            module.name not in NEEDS
            or importlib.util.find_spec(NEEDS[module.name]) is not None
        )
    ]
    found: dict[str, object] = {}
    seen: set[int] = set()
    for package in packages:
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if callable(value) and id(value) not in seen:
                seen.add(id(value))
                found[f"{package.__name__}.{name}"] = value
    return found


def has_running_example(name: str, value: object) -> bool:
    """Whether an example in the docstring names a value, in a line that is run."""
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")
    return any(
        name in example.source
        for example in examples
        if not example.options.get(doctest.SKIP)
    )


def without_example() -> list[str]:
    """Returns the public names that have no example that runs."""
    return [
        path
        for path, value in public_values().items()
        if not has_running_example(path.rsplit(".", 1)[1], value)
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    lacking, count = without_example(), len(public_values())
    for path in lacking:
        print(path)
    print(f"{count - len(lacking)} of {count} public names have an example that runs.")


if __name__ == "__main__":
    main()
