# What type checkers see of the lazy face in __init__.py; a test holds the two together.
from gallery.dedupe import find_duplicates as find_duplicates
from gallery.duplicates import DuplicateGroup as DuplicateGroup
from gallery.duplicates import DuplicateMember as DuplicateMember
from gallery.duplicates import Duplicates as Duplicates
from gallery.encoder import Encoder as Encoder
from gallery.encoder import Precomputed as Precomputed
from gallery.errors import CorruptGalleryError as CorruptGalleryError
from gallery.errors import EncoderMismatchError as EncoderMismatchError
from gallery.errors import GalleryError as GalleryError
from gallery.errors import GalleryExistsError as GalleryExistsError
from gallery.errors import GalleryLockedError as GalleryLockedError
from gallery.errors import GalleryNotFoundError as GalleryNotFoundError
from gallery.errors import InvalidItemError as InvalidItemError
from gallery.errors import MissingExtraError as MissingExtraError
from gallery.errors import NotCalibratedError as NotCalibratedError
from gallery.errors import NotEnoughDataError as NotEnoughDataError
from gallery.errors import StaleCalibrationWarning as StaleCalibrationWarning
from gallery.errors import UnknownSubjectError as UnknownSubjectError
from gallery.evaluation import Evaluation as Evaluation
from gallery.evaluation_page import write_evaluation as write_evaluation
from gallery.gallery import Gallery as Gallery
from gallery.info import Info as Info
from gallery.measures import Calibration as Calibration
from gallery.measures import FusionErrors as FusionErrors
from gallery.measures import Rate as Rate
from gallery.measures import Recall as Recall
from gallery.opening import create as create
from gallery.opening import open as open
from gallery.quality import ImageQuality as ImageQuality
from gallery.records import BulkEnrollment as BulkEnrollment
from gallery.records import Candidate as Candidate
from gallery.records import Enrollment as Enrollment
from gallery.records import Generation as Generation
from gallery.records import Identification as Identification
from gallery.records import Migration as Migration
from gallery.records import Problem as Problem
from gallery.records import Refusal as Refusal
from gallery.records import Repair as Repair
from gallery.records import Subject as Subject
from gallery.records import Template as Template
from gallery.records import Verification as Verification
from gallery.repairing import check as check
from gallery.repairing import repair as repair
from gallery.report import write_report as write_report

__version__: str
__all__: list[str]
