# What type checkers see of the lazy face in __init__.py; a test holds the two together.
import builtins

from encoders.adapters.module import from_module as from_module
from encoders.checkpoint import save as save
from encoders.errors import CheckpointError as CheckpointError
from encoders.errors import DatasetError as DatasetError
from encoders.errors import EncodeError as EncodeError
from encoders.errors import EncoderError as EncoderError
from encoders.errors import MissingExtraError as MissingExtraError
from encoders.errors import PassedOverWarning as PassedOverWarning
from encoders.errors import TrainingError as TrainingError
from encoders.errors import UnknownEncoderError as UnknownEncoderError
from encoders.evaluated import Evaluation as Evaluation
from encoders.evaluating import evaluate as evaluate
from encoders.history import History as History
from encoders.joining import join as join
from encoders.loading import load as load
from encoders.siamese import SiameseEncoder as SiameseEncoder
from encoders.training import train as train

__all__: builtins.list[str]

def list() -> builtins.list[str]: ...
