"""From one recipe: augment a seed preference set, train on it, judge every checkpoint, write the leaderboard."""

__version__ = "0.1.0"
