"""How a command ends that was stopped, or whose output nobody reads; without imports, since these may be the first."""

STOPPED, UNREAD = 130, 141
LINE = "harness: stopped; the same command goes on from the last finished stage"
