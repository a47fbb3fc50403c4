"""Items: what is learnt and known of them, as columns that every worker follows. NumPy alone."""
