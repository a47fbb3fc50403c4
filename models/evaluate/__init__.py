"""How good lists are: meters, protocols, test then learn, and the layers that are compared. NumPy alone."""
