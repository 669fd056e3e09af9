from .comparison import plot_comparison as plot_comparison
from .explanation import plot_explanation as plot_explanation
from .files import save_figure as save_figure
from .inside import plot_activations as plot_activations
from .inside import plot_neighbor_padding as plot_neighbor_padding
