"""The papers' experiments on the user's own images, with results as HTML pages, CSV and JSON."""
