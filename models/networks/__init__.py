"""Network definitions: tensors in, tensors out. They know state dicts, not files, payloads or labels."""
