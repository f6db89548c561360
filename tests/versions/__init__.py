"""The versions that the package promises, each tried: `make matrix`."""
