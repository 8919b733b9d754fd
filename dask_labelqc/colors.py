"""One colour for each class, the same in every figure."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_colors"]

# Each colour is, of 31 levels of red, green and blue, the one whose nearest neighbour among the
# colours before it is farthest by CIEDE2000 (Sharma et al., 2005), at least 25 away from red,
# which shows issues, and from white and black, which show none and no class. The first 20 are 20
# apart, the first 60 are 12, all 256 are 7.
TABLE = """
8055ff 338800 d49900 00a2b2 6e4c00 90004c 88ff00 ff88bb 000077 00554c 807780 00ffdd a2b2ee
005588 99a288 f6aa90 801100 ffe600 2a3c00 55446e dd11aa 00c466 1a88dd 99aa00 666e5e a2805e
664c44 d480ff 00906e 44e6ff 8000b2 807708 a25e6e 906eaa 2abbff bba2bb 447788 b2d488 4c0044
80c4b2 2a6633 55081a 0033c4 f6bbff ddc477 9099a2 77ffa2 5e6e99 ff2a80 ff993c 55555e a26600
552a00 904488 b28888 d42aff 77a255 5e5e2a 6e80f6 eeff80 005eee 669088 cc085e 005566 aa9955
663c4c 66c400 11336e c46ea2 77664c 5e8055 eeaab2 664caa ff55d4 33776e 80b2c4 d4aa80 882a33
9090bb 775e77 004422 ffc422 908880 bbd400 88805e 5eaa80 44553c 4c2277 80006e 5e22ff a23cc4
80441a 66a2ff 00aa99 cc8022 00cccc 4c5e5e 0090bb bba2e6 886e66 997790 00d4a2 ccb200 1a994c
1ae64c 4c6e00 aa8011 d490cc 11ffff 6e8800 443c00 6e8090 9977e6 bb66cc ffc477 00aa08 b29988
c4ff99 006ebb aab277 88cc99 4c5577 d48090 b20077 904466 804c4c a299a2 886e33 66332a 5e4c33
c44c80 008044 008890 5e1a3c 4400aa 556677 8099bb 88aaa2 999000 00bbdd 885e33 551100 7766c4
2a004c 808877 6e773c 334c99 667777 889055 2a5500 6e5e90 5e4c55 b2a280 ff88f6 6e9099 e6aacc
ffaa22 a25e90 66335e aa88bb 6e5e00 006e77 e6dd6e bb88a2 bb9055 6e6666 a20099 4c6e55 006688
6ea200 006e00 88eec4 ccff00 a2dd55 555544 6e3c88 bbc45e 90b290 5ea2cc d4a299 a200ff 11664c
a299ff 807799 88666e 5eb2b2 80c466 1177ff 5e80b2 443c80 ee44a2 d4aa5e 66806e ff6690 4c4cdd
ffb277 a22a4c 666680 888899 779977 f600dd 1a1a5e b24caa 55d4ff 808888 5e554c 553c11 995ecc
77e6d4 002290 887766 ff90a2 f6ff00 ee55ff bb66ff 447733 1100ee 5edd88 3c5e55 8080cc 66883c
555eb2 662a33 805e4c 00f6b2 444c00 442255 8855a2 448066 99a24c 80bbee dd9944 80ff6e ffa2e6
b288dd dda2ff c46680 6e0011 66442a 8044d4 777777 7780a2 55663c 9988a2 004400 5e66ee 5533a2
2a4c3c 4c4c2a 776e44 66a290 3c556e 00c4aa 339088 2a5eb2 aa773c
"""
TONES = ((0.65, 0.85), (0.85, 0.6), (0.4, 0.95), (0.75, 0.4))
"""Saturation and brightness, which take turns after the table's end."""
GOLDEN_RATIO = 0.6180339887


def class_colors(count: int) -> NDArray[np.uint8]:
    """Return an RGB colour for each of `count` classes, no two alike.

    The colour of a class does not depend on how many there are. The first are told apart best, and
    none of 256 is near the red of issues, white or black.

    Parameters
    ----------
    count
        K.

    Returns
    -------
    numpy.ndarray
        uint8 (K, 3).

    Examples
    --------
    >>> class_colors(2).tolist()
    [[128, 85, 255], [51, 136, 0]]
    >>> len(np.unique(class_colors(5000), axis=0))
    5000
    """
    taken = dict.fromkeys(int(color, 16) for color in TABLE.split()[:count])
    for k in range(len(taken), count):
        hue, tone = k * GOLDEN_RATIO % 1.0, TONES[k % len(TONES)]
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, *tone))
        color = red << 16 | green << 8 | blue
        while color in taken:  # in the thousands hues are closer than colours can be
            color = (color + 1) % 2**24
        taken[color] = None
    packed = np.array(list(taken), np.int64)
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)
