"""The stage that measures how far a policy has moved from the one that its training started from."""
