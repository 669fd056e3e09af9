from .image_classifier import ImageClassifier as ImageClassifier
from .lime import FastLimeImageExplainer as FastLimeImageExplainer
from .shap import SegmentMasker as SegmentMasker
from .shapiq import interactions as interactions
