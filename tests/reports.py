"""What two reports of one compression have in common."""


def untimed(report):
    """Its layers, without what was measured by a clock."""
    return [layer.model_dump(exclude={"milliseconds"}) for layer in report.layers]
