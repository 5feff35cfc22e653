"""The tasks behind the stand-in for `bluetooth`: what centrals do, from the supervisor."""

import asyncio
import json

from sim_host import config, send


_reader = asyncio.StreamReader(open(config["radio"], "rb"))  # noqa: SIM115


async def listen(serve):
    """Hand each order of a central, a dict, to `serve`; what it returns is the answer."""
    while True:
        order = json.loads(await _reader.readline())
        answer = serve(order)
        if answer is not None:
            answer["central"] = order["central"]
            send({"radio": answer})


async def later(function, value):
    """Call `function` when the running task has given way."""
    function(value)
