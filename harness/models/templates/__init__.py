"""Chat templates: rendering them, and the markup in texts that they must not be fooled by."""
