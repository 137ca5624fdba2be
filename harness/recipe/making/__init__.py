"""What a recipe says of how training data is made: of rankings that are there, which responses of a ranking are trained
on, and in which rounds policies are sampled and trained again."""
