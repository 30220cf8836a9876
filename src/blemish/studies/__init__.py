"""The papers' experiments on the user's own images, as pages and CSV."""
