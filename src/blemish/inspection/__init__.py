"""Photographs in, judgements out: sources, framing, the one stream, and sinks."""
