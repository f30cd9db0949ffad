"""The examples of the wrappers around other people's models."""

import doctest
import inspect
import sys

import pytest

from vlsm_helpers.models.smp_unet import SMPSegmenter
from vlsm_helpers.models.text_prompted import TextPrompted


@pytest.mark.parametrize("wrapper", [SMPSegmenter, TextPrompted])
def test_its_example_runs(wrapper):
    names = dict(vars(sys.modules[wrapper.__module__]))
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(wrapper), names, wrapper.__name__, None, None)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
