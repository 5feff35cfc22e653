"""What every cloud tells of jobs, in the same words."""

import re
from dataclasses import dataclass, field

ENDED = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "REMOVED", "CANCELED")

_PARTS = re.compile(r"(\d{1,9})/(\d{1,9})")
_PERCENT = re.compile(r"(\d{1,3})\s*%?")


class CloudError(ValueError):
    """The cloud says no, or cannot be asked; the text says why."""


@dataclass(frozen=True)
class Execution:
    """How far a job is with one thing. status: AWS's word; details: {name: text} from the
    module."""

    thing: str
    status: str
    details: dict = field(default_factory=dict)

    @property
    def ended(self):
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    @property
    def reason(self):
        """The module's own words; without them how much it has received; or nothing."""
        return self.details.get("reason") or self.details.get("receive") or ""

    @property
    def done(self):
        """How much of the file has arrived, 0.0 to 1.0. Only a success is 1.0 for sure."""
        if self.status == "SUCCEEDED":
            return 1.0
        parts = _PARTS.fullmatch(self.details.get("receive", ""))
        if parts and int(parts[2]):
            return min(1.0, int(parts[1]) / int(parts[2]))
        percent = _PERCENT.fullmatch(self.details.get("progress", ""))
        return min(1.0, int(percent[1]) / 100) if percent else 0.0

    @property
    def line(self):
        """`<thing> <status> <reason>`."""
        return f"{self.thing} {self.status} {self.reason}".rstrip()


@dataclass(frozen=True)
class Job:
    """A job as a whole. status: IN_PROGRESS, CANCELED, COMPLETED and whatever AWS has more."""

    id: str
    status: str
    description: str = ""
