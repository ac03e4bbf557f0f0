"""Labeled photos: how they lie on the disk, and how CelebAMask-HQ becomes such a folder."""
