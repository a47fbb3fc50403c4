"""The live page: what an editor, a data scientist and an operator see of a running worker."""
