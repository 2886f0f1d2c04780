"""All public names have an example that runs."""

import pytest

from benchmarks.documented import has_running_example, public_values, without_example

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_every_public_name_has_an_example():
    assert without_example() == []
    assert len(public_values()) > 200


def test_an_example_that_is_skipped_or_of_something_else_does_not_count():
    def skipped():
        """Does nothing.

        Example:
            >>> skipped()    # doctest: +SKIP
        """

    def other():
        """Does nothing.

        Example:
            >>> len("other")
            5
        """

    assert not has_running_example("skipped", skipped)
    assert has_running_example("other", other)
    assert not has_running_example("something", other)
