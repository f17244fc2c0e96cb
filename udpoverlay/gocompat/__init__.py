"""Go's parsing rules, where flannel's users depend on them."""
