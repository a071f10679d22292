"""The demo: train a small ReLU network, smooth it, and attack its certificate."""
