"""Simulated damage: pure, batched functions that run on the images' device.

All random numbers are drawn on the host from one CPU ``torch.Generator`` and then sent to the device. So no step
waits for the device, and a resumed run needs only the state of this generator to draw the same damage.
"""
