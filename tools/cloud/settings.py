"""What can be changed while the local cloud runs; defaults are AWS's where there are any."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass
class Settings:
    """One object, read at the moment of use, so that a change acts at once."""

    enforce_quotas: bool = False
    replay_per_second: float = 10.0  # backlog of a persistent session; 0 is without limit
    session_expiry: float = 3600.0  # seconds a persistent session outlives its connection
    keepalive_scale: float = 1.0  # every keep-alive deadline is multiplied by this (tests)
    redelivery: str = "dup"  # `dup`: same packet id, DUP=1; `fresh`: new packet id, DUP=0
    subscribe_gap: float = 0.0  # seconds between SUBACK and the first delivery
    deadline: float = 30.0  # seconds for the handshake, and then for CONNECT
    defender_minimum: float = 0.0  # seconds between two reports of a thing (AWS: 300); 0: none

    token_life: float = 3600.0  # seconds in which a fresh certificate may be claimed
    hook_timeout: float = 5.0  # seconds that a pre-provisioning hook may take
    job_minute: float = 60.0  # seconds in a minute of a job's timeouts (tests)
    url_life: float = 0.0  # seconds that a file's URL in a job stays good; 0: as the job says

    def change(self, values: dict) -> None:
        """Set some values by name; ValueError for a bad one, and then none is changed."""
        known = {field.name: field.default for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no setting {name}")
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            if isinstance(known[name], float):
                if not numeric or value < 0:
                    raise ValueError(f"{name} takes a number, zero or more")
            elif type(value) is not type(known[name]):
                raise ValueError(f"{name} takes a {type(known[name]).__name__}")
            if name == "redelivery" and value not in ("dup", "fresh"):
                raise ValueError("redelivery is dup or fresh")
        for name, value in values.items():
            setattr(self, name, type(known[name])(value))

    def as_dict(self) -> dict:
        """All values by name."""
        return asdict(self)
