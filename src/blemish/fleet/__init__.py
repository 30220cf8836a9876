"""Grids of trainings: many cells (products, seeds, ablations), each a run folder and a process of its own.

``grid.run_grid`` is the way in. ``cells`` and ``states`` do not import torch.
"""
