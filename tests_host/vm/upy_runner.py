# The runner itself: both kinds of function, the heap limit, imports by full name.
import gc
import sys


def test_runs_on_micropython():
    assert sys.implementation.name == "micropython"


async def test_async_function_is_awaited():
    import asyncio

    await asyncio.sleep_ms(1)
    assert asyncio.current_task() is not None


# vm: heap=64
def test_heap_option_limits_the_heap():
    gc.collect()
    assert gc.mem_free() < 2 * 64 * 1024


def test_library_is_imported_by_its_full_name():
    import lib

    assert lib.__name__ == "lib"
    assert not any(p.endswith("/lib") and "micropython" not in p for p in sys.path)
