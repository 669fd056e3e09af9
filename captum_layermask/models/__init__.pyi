from .images import example_image as example_image
from .images import read_image as read_image
from .pretrained import LoadedModel as LoadedModel
from .pretrained import ModelUnavailableError as ModelUnavailableError
from .pretrained import Normalize as Normalize
from .pretrained import load_model as load_model
