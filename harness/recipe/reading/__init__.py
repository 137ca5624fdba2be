"""Reading a recipe's file: its YAML, the texts in it that stay as written, and mistakes by line and field."""
