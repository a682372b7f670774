"""Measure pairs of factorization and implementation on layers, beside the dense convolution."""
