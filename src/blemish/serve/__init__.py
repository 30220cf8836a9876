"""``blemish serve``: products, their lines, and the interface by HTTP."""
