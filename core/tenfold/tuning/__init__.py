"""Choose how a layer runs by measuring, and keep the choices."""
