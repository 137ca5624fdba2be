"""What benchmarks start beside themselves: servers, and the sides of a comparison, in processes of their own."""
