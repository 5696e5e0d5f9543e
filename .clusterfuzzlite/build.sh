#!/bin/bash -eu
# Turns each fuzz/fuzz_*.py into a fuzzer in $OUT, with the committed corpora of its targets as its seeds.
# Targets and atheris are imported by name when a fuzzer starts: pyinstaller has to be told of them.
cd "$SRC/heaplaw"
pip3 install .

for fuzzer in fuzz/fuzz_*.py; do
  name=$(basename -s .py "$fuzzer")
  compile_python_fuzzer "$fuzzer" --collect-submodules heaplaw --collect-data heaplaw --collect-all atheris
  # an input's header numbers the configurations of a family from its first target's on: only that one's seeds fit
  target=$(sed -n 's/^TestOneInput = Harness("\([^"]*\)".*/\1/p' "$fuzzer")
  if [ -d "tests/data/corpus/$target" ]; then
    zip -q -j -r "$OUT/${name}_seed_corpus.zip" "tests/data/corpus/$target"
  fi
  printf '[libfuzzer]\nmax_len = 1212\ntimeout = 120\n' > "$OUT/$name.options"
done
