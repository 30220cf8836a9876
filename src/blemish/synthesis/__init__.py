"""Simulated damage: pure functions, batched, on the images' device.

Whatever is random is drawn on the host from one CPU ``torch.Generator`` and only then sent to the device: no step
waits for the device, and one state tells how to go on.
"""
