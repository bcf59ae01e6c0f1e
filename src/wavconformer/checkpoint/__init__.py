"""Files to model and back: folders and the Hub, safetensors and older formats, language adapters, fairseq."""
