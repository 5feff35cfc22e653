"""What a row of the bench is: the contract of build/bench.json in one place."""

from __future__ import annotations


def against(name: str, value: float, unit: str, peer: str, peer_value: float, goal: float | None,
            larger_is_better: bool = True) -> dict:  # fmt: skip
    """A figure of ours beside a peer's of the same run.

    goal: the ratio ours / peer that is asked for (at least it, or at most it when small figures
    are good), None when the row only informs.
    """
    ratio = value / peer_value if peer_value else None
    met = None
    if goal is not None and ratio is not None:
        met = ratio >= goal if larger_is_better else ratio <= goal
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
        "goal": None if goal is None else f"{'>=' if larger_is_better else '<='} {goal:g} x peer",
        "met": met,
    }


def budget(name: str, value: float, unit: str, limit: float | None) -> dict:
    """A figure that must not be over a limit; limit None: it is only printed."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": "budget" if limit is not None else None,
        "peer_value": limit,
        "ratio": value / limit if limit else None,
        "goal": None if limit is None else f"<= {limit:g}",
        "met": None if limit is None else value <= limit,
    }
