"""Writes samples/speech.wav: 0.7 s of silence, a spoken sentence, silence up to 3.5 s. 16 kHz, mono, PCM16.

    espeak-ng -v en-gb -s 160 -w /tmp/speech-22k.wav "Every answer carries a receipt."
    python3 make-samples.py /tmp/speech-22k.wav

The synthesiser's 22.05 kHz are brought to 16 kHz by linear interpolation with the standard library alone; at
these rates the small loss in the highest band does not matter to a voice detector.
"""

import array
import pathlib
import sys
import wave

RATE = 16_000
BEFORE_S = 0.7
TOTAL_S = 3.5

with wave.open(sys.argv[1]) as spoken:
    assert spoken.getnchannels() == 1 and spoken.getsampwidth() == 2
    rate = spoken.getframerate()
    samples = array.array("h", spoken.readframes(spoken.getnframes()))
total = int(RATE * TOTAL_S)
out = array.array("h", bytes(2 * total))
first = int(RATE * BEFORE_S)
for index in range(total - first):
    position = index * rate
    left, part = divmod(position, RATE)
    if left + 1 >= len(samples):
        break
    out[first + index] = (samples[left] * (RATE - part) + samples[left + 1] * part) // RATE
else:
    raise SystemExit("the spoken sentence is longer than the file")
path = pathlib.Path(__file__).resolve().parent / "samples" / "speech.wav"
with wave.open(str(path), "wb") as target:
    target.setnchannels(1)
    target.setsampwidth(2)
    target.setframerate(RATE)
    target.writeframes(out.tobytes())
