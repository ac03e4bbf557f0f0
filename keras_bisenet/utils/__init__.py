"""What every room needs: errors, files that appear whole, images, worker processes."""
