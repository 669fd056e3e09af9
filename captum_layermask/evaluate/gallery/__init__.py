"""A folder of images, each explained: pictures, the numbers behind them, and a page that lists them."""
