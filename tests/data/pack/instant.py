"""Work that takes no time, for tests of how it is given out; here since a worker must be able to import it."""

from avatar.data.pack.check import Check, Checked


def instant(task: Check) -> Checked:
    """Found good, unseen."""
    return Checked(picture=True, sound=True, seconds=float(task.medium.end or 0), heard=bool(task.sound))
