"""Cost of a unit of work at growing numbers of them."""
