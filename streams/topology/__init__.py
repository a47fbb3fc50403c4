"""The declared topics, and what is made of them: the cluster's topics, manifests, documents."""
