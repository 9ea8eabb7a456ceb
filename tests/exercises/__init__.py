"""The gradients of ref/ to be found by oneself: `python -m tests.exercises start FOLDER`, then `check FOLDER`.

`fault FOLDER N` trains a copy of ref/ that holds one mistake; `--answer NAME` names the function that holds it.
"""
