"""What groups of people with similar taste chose, as evidence."""
