"""``blemish serve``: a service that judges photographs and records every verdict.

``service.Service`` is what it does, ``app.create_app`` its HTTP interface. ``decoding`` does not import torch.
"""
