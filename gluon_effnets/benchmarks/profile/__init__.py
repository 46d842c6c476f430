"""Where a network's time goes: operators, and the least that they can take on this processor."""
