"""Saved models as folders: which files are loaded, whether their weights are those that the configuration describes,
and what identifies them. Everything here is looked at before transformers or PEFT get the folder.

`folder` reads and checks the files, `sizes` the configuration, `complete` compares weights with the model that they are
for, `adapters` does so for PEFT, and `identity` hashes what is loaded.
"""
