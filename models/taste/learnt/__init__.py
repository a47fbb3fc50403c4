"""What readers' choices teach: counts over choices, blends and networks learnt as they choose. NumPy alone."""
