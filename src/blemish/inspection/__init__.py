"""Inspection of photographs: sources, framing, the stream of judgements, and sinks."""
