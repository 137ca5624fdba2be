"""Gates on pull requests in CI: the action as a runner runs it, verdicts between machines, a baseline's history."""
