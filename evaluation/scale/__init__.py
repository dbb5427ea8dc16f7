"""Large and long runs: what a unit of work costs at growing numbers of them, and what kills cost."""
