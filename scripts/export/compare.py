"""Prints the largest and the mean difference of two pictures; fails if one is above its limit."""

import sys

import numpy as np
from PIL import Image


def main() -> None:
    a, b = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in sys.argv[1:3])
    most, mean = (float(limit) for limit in sys.argv[3:5])
    difference = abs(a - b)
    print(f"{difference.max()} / {difference.mean():.3f}")
    if difference.max() > most or difference.mean() > mean:
        sys.exit(1)


if __name__ == "__main__":
    main()
