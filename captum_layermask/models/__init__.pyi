from .devices import find_device as find_device
from .images import example_image as example_image
from .images import read_image as read_image
from .load import load_model as load_model
from .loaded import LoadedModel as LoadedModel
from .packages import ModelUnavailableError as ModelUnavailableError
from .preprocessing import Normalize as Normalize
