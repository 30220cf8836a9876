"""Simulated damage: pure functions, batched, on the images' device.

Whatever is random is drawn on the host from one CPU ``torch.Generator`` and only then sent to the device:
the same seed gives the same damage on a CPU and on a GPU, and no step waits for the device.
"""
