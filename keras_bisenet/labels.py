"""The 19 CelebAMask-HQ classes in the order of this network's output channels (data only).

The order is the one of the published face-parsing checkpoints. It differs from the order of CelebAMask-HQ's own
(MaskGAN) label maps. "Left" and "right" are the person's: `l_eye` lies on the right-hand side of an unmirrored photo.
"""

LABELS = (
    "background",
    "skin",
    "l_brow",
    "r_brow",
    "l_eye",
    "r_eye",
    "eye_g",
    "l_ear",
    "r_ear",
    "ear_r",
    "nose",
    "mouth",
    "u_lip",
    "l_lip",
    "neck",
    "neck_l",
    "cloth",
    "hair",
    "hat",
)

DESCRIPTIONS = {
    "background": "background",
    "skin": "face skin",
    "l_brow": "left eyebrow",
    "r_brow": "right eyebrow",
    "l_eye": "left eye",
    "r_eye": "right eye",
    "eye_g": "eyeglasses",
    "l_ear": "left ear",
    "r_ear": "right ear",
    "ear_r": "earring",
    "nose": "nose",
    "mouth": "mouth interior",
    "u_lip": "upper lip",
    "l_lip": "lower lip",
    "neck": "neck",
    "neck_l": "necklace",
    "cloth": "clothing",
    "hair": "hair",
    "hat": "hat",
}

# A mirrored photo has its left and right parts exchanged: these class ids swap with each other.
LEFT_RIGHT_PAIRS = ((2, 3), (4, 5), (7, 8))

# The label of a pixel that has none: training and evaluation pass over it.
IGNORE = 255

# uint8 RGB, one color a class. Paired parts share a hue and differ in lightness.
PALETTE = (
    (32, 32, 38),
    (242, 196, 164),
    (122, 78, 20),
    (176, 122, 50),
    (0, 92, 175),
    (62, 160, 235),
    (20, 20, 130),
    (200, 90, 120),
    (235, 140, 165),
    (255, 215, 0),
    (120, 190, 90),
    (255, 255, 255),
    (214, 40, 57),
    (150, 10, 40),
    (210, 150, 110),
    (255, 160, 30),
    (90, 200, 190),
    (108, 60, 160),
    (190, 190, 60),
)
