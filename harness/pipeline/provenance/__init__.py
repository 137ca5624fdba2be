"""What an entry says about where its figures come from, part by part."""
