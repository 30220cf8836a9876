"""Compare runs with each other and with the papers' figures."""
