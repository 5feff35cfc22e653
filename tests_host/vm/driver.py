# Runs one test function of one file on the MicroPython VM: driver.py MODULE FUNCTION.
# The process ends with 0 when the function returns, with 1 and a traceback when it raises.
import sys

module = sys.argv[1]
name = sys.argv[2]
# MicroPython's __import__ returns the outermost package, so the module is taken from the table.
__import__(module)
function = getattr(sys.modules[module], name)
result = function()
# An async def returns a generator, which only a loop can run.
if hasattr(result, "send"):
    import asyncio

    asyncio.run(result)
