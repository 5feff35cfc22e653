"""The runner reports what goes wrong on the VM: an exception, a hang, too small a heap."""

import pytest

from tests_host.vm.runner import VmError


def test_output_and_arguments_reach_the_test(vm):
    assert vm("import sys; print(sys.argv[1:])", 1883, "x") == "['1883', 'x']\n"


def test_environment_reaches_the_script(vm):
    assert vm("import os; print(os.getenv('PORT'))", env={"PORT": 12}) == "12\n"


def test_exception_fails_with_its_traceback(vm):
    with pytest.raises(VmError, match="ZeroDivisionError"):
        vm("1 / 0")


def test_hang_is_ended(vm):
    with pytest.raises(VmError, match="did not end"):
        vm("while True: pass", timeout=0.5)


def test_small_heap_raises_memory_error(vm):
    with pytest.raises(VmError, match="MemoryError"):
        vm("x = bytearray(300_000)", heap=64)
