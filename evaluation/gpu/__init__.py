"""Checks xaikit on a CUDA GPU: values against the CPU, speed against bare passes, synchronisations; `make gpu`."""
