"""The kernel: classifier, probe, target, attribution; it knows no method and no measure."""
