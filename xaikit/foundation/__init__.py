"""Utilities that do not depend on images: errors, atomic files, TOML, the registry, hashes and seeds."""
