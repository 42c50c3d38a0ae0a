"""Steps of preprocessing that others use as well: spectra, sizes of images, tokenizers."""
