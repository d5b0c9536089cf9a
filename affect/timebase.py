"""Frame rate, sampling rate and frame size: the rates that all arrays of this project share.

Frame k = 0, 1, ... covers the interval [k / 25, (k + 1) / 25) s of a recording. It holds 640 audio samples at 16 kHz,
the image that is on screen at the START of the interval, and the rating at its END. The rating at t = 0 is dropped, as
the paper's authors do: 7501 ratings give 7500 frames.
"""

FRAME_RATE_HZ = 25
SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = SAMPLE_RATE_HZ // FRAME_RATE_HZ
PCM_FULL_SCALE = 32_768.0  # an int16 sample divided by this lies in [-1, 1)
