"""What each graph pass brings."""
