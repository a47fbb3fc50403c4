"""What a reader takes next, from the order of what they took: learned offline, served with NumPy alone."""
