"""The formats and implementations that come with tenfold, each one a plugin as any other."""
