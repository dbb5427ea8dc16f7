"""The attribution methods: a folder a family, a file a method."""
