"""Runs: one public function a command."""
