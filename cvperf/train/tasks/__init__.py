"""What a recipe's ``task`` decides: the network, what its steps make smaller, how it is judged."""
