"""Jobs in a local cloud, by its control socket."""

import contextlib
import tempfile

from tools.cloud.control import Control, ControlError
from tools.fleet.ota_cloud import CloudError, Execution, Job


@contextlib.contextmanager
def _told():
    """The cloud's errors as CloudError."""
    try:
        yield
    except ControlError as error:
        raise CloudError(str(error)) from None


class LocalCloud:
    """The cloud that runs in a folder. Every method raises CloudError when it says no."""

    # Between two looks at a job, in seconds.
    interval = 0.2

    def __init__(self, folder):
        self._folder = folder

    @contextlib.contextmanager
    def _control(self):
        with _told(), Control(self._folder) as control:
            yield control

    def create(self, job, things, order):
        """Order an update: everything, or nothing is left behind."""
        key = order.key(job)
        with self._control() as control, contextlib.ExitStack() as undo:
            with tempfile.NamedTemporaryFile() as copy:
                # A copy of the bytes that were signed, whatever happens to the file meanwhile.
                copy.write(order.data)
                copy.flush()
                control.put_file(key, copy.name)
            undo.callback(control.remove_file, key)
            if order.by_url:
                # The cloud puts a fresh URL in its place whenever a module asks.
                document = order.document(url=f"${{aws:iot:s3-presigned-url:{key}}}")
            else:
                control.put_stream(job, [key], order.description)
                undo.callback(control.remove_stream, job)
                document = order.document(stream=job)
            control.create_job(job, things, document, description=order.description)
            undo.pop_all()

    def executions(self, job):
        """[Execution] of a job, in the order of its things."""
        with self._control() as control:
            found = control.job(job)
        if found is None:
            raise CloudError(f"there is no job {job}")
        return [Execution(e["thing"], e["status"], e["details"]) for e in found["executions"]]

    def jobs(self):
        """[Job], the newest last."""
        with self._control() as control:
            rows = control.jobs()
        return [Job(row["job"], row["status"], row["description"]) for row in rows]

    def cancel(self, job, force):
        """Cancel a job: what is queued, with `force` also what is in progress."""
        with self._control() as control:
            control.cancel_job(job, force)
