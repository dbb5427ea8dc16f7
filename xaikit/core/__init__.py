"""Former addresses, kept for scripts written for the first edition; new code imports from `xaikit`."""
