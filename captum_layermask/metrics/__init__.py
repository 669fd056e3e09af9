"""Metrics measure missingness bias: of predictions, and of explanations.

A metric, a file; none has the name of a function in it, since the imported file would hide the function here.
Explanations of N images come in the same way everywhere:

* ``importance``: float N×K, entry i of a row is the importance of segment i of that image; positive speaks
  for the class. Columns beyond the segments of an image are not read, so images with fewer segments are
  filled up with anything. One explanation may come as float K.
* ``segments``: LongTensor N×1×H×W, ids from 0 to K − 1 (``captum_layermask.explain.segments`` makes them).
* ``mask``: N×1×H×W, where the object is; bool, or float in [0, 1].
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
