"""Waits until a job has ended everywhere, with a bar for every module."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

# More bars than fit on a screen tell nobody anything: then only those that move are shown.
_ROWS = 16


def wait(cloud, job, timeout, interval, stream):
    """Watch `job` on `cloud` until every execution has ended; returns them as they are then, or
    after `timeout` seconds (None: no limit). interval: seconds between two looks; stream: where
    the bars go, which are moving ones on a terminal and a line at each change elsewhere."""
    end = None if timeout is None else time.monotonic() + timeout
    console = Console(file=stream)
    show = _Bars(console) if console.is_terminal else _Lines(stream)
    with show:
        while True:
            executions = cloud.executions(job)
            show.update(executions)
            if all(execution.ended for execution in executions):
                return executions
            if end is not None and time.monotonic() + interval > end:
                return executions
            time.sleep(interval)


class _Lines:
    """For a log: each change once."""

    def __init__(self, stream):
        self._stream = stream
        self._last = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.flush()

    def update(self, executions):
        for execution in executions:
            if self._last.get(execution.thing) != execution.line:
                self._last[execution.thing] = execution.line
                self._stream.write(execution.line + "\n")


class _Bars:
    """For a person: a bar for each module, and one for all when there are several."""

    def __init__(self, console):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[status]}"),
            console=console,
        )
        self._tasks = {}
        self._all = None

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()

    def update(self, executions):
        if self._all is None and len(executions) > 1:
            self._all = self._progress.add_task(
                f"{len(executions)} modules", total=len(executions), status=""
            )
        shown = self._shown(executions)
        for execution in executions:
            task = self._tasks.get(execution.thing)
            if task is None:
                task = self._progress.add_task(escape(execution.thing), total=1.0, status="")
                self._tasks[execution.thing] = task
            self._progress.update(
                task,
                completed=execution.done,
                status=escape(f"{execution.status} {execution.reason}".rstrip()),
                visible=execution.thing in shown,
            )
        if self._all is not None:
            ended = [execution for execution in executions if execution.ended]
            good = sum(execution.status == "SUCCEEDED" for execution in ended)
            self._progress.update(
                self._all,
                completed=len(ended),
                status=f"{good} succeeded, {len(ended) - good} not",
            )

    @staticmethod
    def _shown(executions):
        """The things whose bars are seen: those at work first, then those that went wrong."""
        order = ("IN_PROGRESS", "FAILED", "REJECTED", "TIMED_OUT")

        def rank(execution):
            status = execution.status
            return order.index(status) if status in order else len(order)

        return {execution.thing for execution in sorted(executions, key=rank)[:_ROWS]}
