"""How the shipped miniatures of CLIPSeg and BiomedCLIP were made."""
