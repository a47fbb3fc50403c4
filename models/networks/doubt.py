"""Whether words that Whisper decoded were said or invented: its own rules (Radford et al. 2022, section 4.5), with a
stricter one for silence."""

import zlib
from collections.abc import Sequence

import numpy as np

from models.networks.greedy import Decoded

# Silence is where no speech is likely and the words are unlikely; loops pack well.
# Whisper's -1 for silence let "you" through on bursts of noise and beeps (no speech 0.83 to 0.93, words -0.66 to
# -0.96), while strings of spoken digits stay below 0.65: words must beat -0.5 to stand against it.
_NO_SPEECH = 0.6
_LEAST_LOGPROB_SILENCE = -0.5
_LEAST_LOGPROB = -1.0
_MOST_COMPRESSION = 2.4


def is_doubtful(decoded: Decoded) -> bool:
    """Whether the words are more likely invented than heard."""
    if decoded.no_speech > _NO_SPEECH and decoded.avg_logprob < _LEAST_LOGPROB_SILENCE:
        return True
    return decoded.cut or is_loop(decoded.tokens)


def is_failed(decoded: Decoded) -> bool:
    """Whether a second look over the full window may help. It does not where there is no speech."""
    unlikely = decoded.avg_logprob < _LEAST_LOGPROB and decoded.no_speech < _NO_SPEECH
    return unlikely or decoded.cut or is_loop(decoded.tokens)


def is_loop(tokens: Sequence[int]) -> bool:
    """Whether the text repeats itself more than speech does: it packs to under 1 / 2.4 of its size.

    Measured on token numbers of 2 bytes, which needs no text; short answers never pack that well.
    """
    data = np.asarray(tokens, "<u2").tobytes()
    return len(data) > _MOST_COMPRESSION * len(zlib.compress(data))


def preference(decoded: Decoded) -> tuple[bool, float]:
    """Of two looks at the same sound, the greater one is to be believed."""
    return not (decoded.cut or is_loop(decoded.tokens)), decoded.avg_logprob
