"""A whole trained network made smaller and faster by measured error and measured latency."""
