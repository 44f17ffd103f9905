"""Music information retrieval on one recording or score: tempo, key, metre, artefacts, plots.

Floor 4: may import floors -1 to 3. Signal processing only, with no trained models: these functions
also evaluate the output of the trained models. Read `analysis/audio/onsets.py` first, then
`analysis/audio/tempo.py`. Sub-folders and files:

- `audio`: onsets, beats, tempo, key, metre and level of a waveform;
- `score`: tempo, key, metre, instruments and structure of a score;
- `labels`: frame labels and attributes of a performance, read off its notes;
- `artefacts`: clicks, hiss, warble and stuck loops (`summary.py` collects them);
- `similarity`: nearest training clips (`clip_index.py`) and shared melodies (`melody_index.py`,
  `melody_fingerprints.py`);
- `plots`: piano rolls and spectrograms;
- `receipt.py`: measured against requested attributes; `calibration.py`: accuracy of the detectors.

Names are imported from their own files: some need much of scipy, and a command that measures
nothing must not wait for its import.
"""
