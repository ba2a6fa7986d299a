"""Off a vendor's API before it closes: inventory, record, fetch, plan, train, compare, cut over."""
