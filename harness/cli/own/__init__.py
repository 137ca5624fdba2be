"""Commands for people who write a recipe of their own: `init` begins one from their data, `reference` says what may
stand in it."""
