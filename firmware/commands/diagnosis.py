"""Events and diagnosis (guide, chapter 6)."""


def event_query(module, command):
    """EVENT? (6.1.1)."""
    return module.events.get()
