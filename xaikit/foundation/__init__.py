"""What knows nothing of images: errors, atomic files, TOML, the registry, hashes and seeds."""
