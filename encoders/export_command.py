"""The command `encoders export`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

WORDS = "write an encoder as one file: an ONNX model, or safetensors with the record inside"


def grammar(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument(
        "encoder", metavar="ENCODER", help="a name from `encoders list`, or a checkpoint folder"
    )
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("--onnx", metavar="FILE", help="the ONNX model to write; its embeddings are compared")
    form.add_argument("--safetensors", metavar="FILE", help="the safetensors file to write")
    command.add_argument("--json", action="store_true", help="print one object")


def run(arguments: argparse.Namespace) -> None:
    """encoders export ENCODER --onnx FILE | --safetensors FILE"""
    from encoders import adapters, checkpoint, export, shipped
    from encoders.errors import EncoderError

    file = Path(arguments.onnx or arguments.safetensors)
    suffix = ".onnx" if arguments.onnx else ".safetensors"
    if file.suffix != suffix:
        raise EncoderError(f"{file}: a name that ends in {suffix} is needed, by which it is known again")
    if adapters.home(arguments.encoder) is not None:
        raise EncoderError(f"{arguments.encoder} is not an encoder of this package: it has files of its own")
    if arguments.encoder.endswith(".safetensors"):
        encoder = export.from_safetensors(arguments.encoder, "cpu")
    else:
        encoder = checkpoint.load(shipped.find(arguments.encoder), device="cpu")
    apart = None
    if arguments.onnx:
        apart = export.to_onnx(encoder, file)
    else:
        export.to_safetensors(encoder, file)
    size = file.stat().st_size
    if arguments.json:
        print(json.dumps({"file": str(file), "bytes": size, "largest_difference": apart}, indent=2))
        return
    print(f"{encoder.name} written to {file}, {size:,} bytes")
    if apart is not None:
        print(f"its embeddings are within {apart:.1g} of ours, number by number")
