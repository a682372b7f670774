"""The command line: `tenfold` and its commands, one a file.

Imports any room; used by none.
"""
