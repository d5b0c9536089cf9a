"""The one place of the rates that every array in this project keeps.

Frame k = 0, 1, ... covers [k / 25, (k + 1) / 25) s of a recording: 640 samples of sound at 16 kHz, the picture that a
viewer sees at the frame's START, and the rating at its END (the paper's authors drop the rating at t = 0, so 7501
ratings give 7500 frames).
"""

FRAME_RATE_HZ = 25
SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = SAMPLE_RATE_HZ // FRAME_RATE_HZ
PCM_FULL_SCALE = 32_768.0  # an int16 sample divided by this lies in [-1, 1)
