"""Ways to run a trained method: ``base.py`` is the contract, and each other file one of them, or how to get there."""
