"""Hand on what a run has trained: merged, as GGUF with a Modelfile, and certified against llama.cpp."""
