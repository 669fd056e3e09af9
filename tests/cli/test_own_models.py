"""The commands on people's own networks, with the files that they have: nothing is downloaded."""

import os
import subprocess
import sys

import pytest
from command_line import FEW, fails
from own_models import CLASSES, save_own_models, save_timm, save_transformers
from PIL import Image

from captum_layermask.__main__ import main
from captum_layermask.models.images import example_image

KINDS = ["torchvision", "timm", "transformers", "module", "loaded", "installed"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The files, and options by kind."""
    place = tmp_path_factory.mktemp("saved")
    options = save_own_models(place)
    example_image().save(place / "cat.jpg")
    return place, options


@pytest.fixture
def files(saved, folder, monkeypatch):
    """Options by kind, of files that lie in the current folder; no place on the network is reached."""
    place, options = saved
    for path in place.iterdir():
        os.symlink(path, path.name)

    def refused(*_, **__):
        raise AssertionError("offline")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("socket.getaddrinfo", refused)
    for name in ("net", "beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return options


def save(kind, folder):
    if kind == "timm":
        pytest.importorskip("timm")
        save_timm(folder)
    if kind == "transformers":
        pytest.importorskip("transformers")
        save_transformers(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_explain_and_compare_run_with_own_class_names(files, folder, capsys, kind):
    save(kind, folder)
    for command, removal, output in (("explain", "layer", "a.png"), ("compare", "grey,layer", "b.png")):
        option = "--removal" if command == "explain" else "--removals"
        with pytest.raises(SystemExit) as caught:
            main([command, "cat.jpg", *files[kind], *FEW, option, removal, "-o", output])
        printed = capsys.readouterr()
        assert not caught.value.code, printed.err
        assert f"classes  3: {', '.join(CLASSES)}" in printed.err.splitlines()
        assert any(line.startswith(CLASSES) for line in printed.out.splitlines())
        with Image.open(output) as figure:
            assert figure.width > 500


def test_from_the_shell_with_a_state_dict(files):
    """As a person types it, in a process of its own."""
    command = [sys.executable, "-m", "captum_layermask", "explain", "cat.jpg", *files["torchvision"], *FEW]
    done = subprocess.run(
        [*command, "--target", "café"], capture_output=True, encoding="utf-8", timeout=80, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "explained 'café'" in done.stdout
    model, images, colors, classes, device, *_ = done.stderr.splitlines()
    assert model.split() == ["model", "torchvision:resnet18"]
    assert images == "images   64×64: shorter side resized to 73 (bilinear), middle cut out"
    assert colors == "colours  mean 0.485 0.456 0.406, standard deviation 0.229 0.224 0.225"
    assert classes == f"classes  3: {', '.join(CLASSES)}"
    assert device.split()[0] == "device"
    assert all(len(line) <= 80 for line in (model, images, colors, classes, device))


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--size", "0"], "the size is 0"),
        (["--size", "1"], "does not take an image of 1×1 pixels"),
        (["--size", "32", "--crop", "0"], "the crop is 0"),
        (["--size", "32", "--crop", "nan"], "the crop is nan"),
        (["--crop", "0.5"], "does not tell the size of its images; give --size too"),
        (["--crop", "0.001", "--size", "32"], "the crop is 0.001"),
        (["--mean", "0.5,x,0.5"], "--mean is '0.5,x,0.5'; give numbers"),
        (["--mean", "1,2"], "--mean has 2 numbers"),
        (["--mean", "120,110,100"], "divide colours of 0 to 255 by 255"),
        (["--std", "0"], "standard deviations must be positive"),
        (["--std", "nan"], "standard deviations must be positive"),
        (["--interpolation", "bilinaer"], "did you mean 'bilinear'"),
        (["--preprocess", "geometry"], "'geometry' names no transform; give FILE.py:NAME"),
        (["--preprocess", "net.py:geometri"], "did you mean 'geometry'"),
        (["--preprocess", "net.py:WIDTH"], "net.py:WIDTH is of type int; give a callable"),
        (["--preprocess", "net.py:network"], "net.py:network raised TypeError"),
        (["--preprocess", "net.py:geometry", "--crop", "1"], "takes no size, crop or interpolation"),
        (["--class-names", "absent.txt"], "--class-names: there is no file 'absent.txt'"),
        (["--class-names", "two.txt"], "there are 2 class names for a network of 3 classes"),
        (["--weights", "absent.pt"], "--weights: there is no file 'absent.pt'"),
        (["--weights", "two.txt"], "cannot read weights from 'two.txt'; give a file .safetensors"),
        (["--weights", "fox.pt"], "are not those of net.py:loaded: missing '0.weight'"),
        (["--device", "gpu"], "unknown device 'gpu'; give auto, cpu, cuda, cuda:N or mps"),
        (["--device", "mps"], "has no MPS; give --device cpu"),
        (["--dtype", "float46"], "did you mean 'float16'"),
        (["--model", "net.py:gone"], "unknown name in 'net.py': 'gone'"),
        (["--model", "net.py"], "name the network in it, net.py:NAME"),
        (["--model", "absent.py:Net"], "there is no file 'absent.py'"),
        (["--model", "net.py:WIDTH"], "net.py:WIDTH is of type int; give an nn.Module"),
        (["--model", "net.py:ready"], "give --size (or --preprocess), --mean, --std"),
        (["--model", "fox.pt"], "--model torchvision:resnet18 --weights fox.pt"),
        (["--model", "fox.pt2"], "carries no masks"),
        (["--model", "."], "give hf:."),
        (["--model", "hf:."], "there is no config.json in '.'"),
        (["--model", "nets:ready"], "unknown model 'nets:ready'"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(files, capsys, args, what):
    with open("two.txt", "w") as file:
        file.write("ant\nbee\n")
    model = [] if "--model" in args else ["--model", "net.py:loaded"]
    assert what in fails(capsys, "explain", "cat.jpg", *model, *args)


def test_cuda_that_is_not_there_is_one_sentence_and_exit_code_2(files, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        assert "has no CUDA; give --device cpu" in fails(capsys, "explain", "--device", device)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert "there is no cuda:2; give one from cuda:0 to cuda:1" in fails(
        capsys, "explain", "--device", "cuda:2"
    )


RAISES = """
class Stop(BaseException): pass
def value():
    raise ValueError("the weights\\nare gone")
def silent():
    assert False
def ends():
    raise SystemExit(3)
def needs(width):
    return width
def parsed():
    import broken
"""


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("value", "raises.py:value raised ValueError: the weights are gone (raises.py, line 4)"),
        ("silent", "raises.py:silent raised AssertionError (raises.py, line 6)"),
        ("ends", "raises.py:ends raised SystemExit: 3 (raises.py, line 8)"),
        ("needs", "missing 1 required positional argument: 'width'"),
        ("parsed", "raises.py:parsed raised SyntaxError"),
    ],
)
def test_a_factory_that_raises_is_one_sentence_with_the_line(files, folder, capsys, name, what):
    (folder / "raises.py").write_text(RAISES)
    (folder / "broken.py").write_text("def f(:\n")
    os.makedirs("__pycache__", exist_ok=True)
    assert what in fails(capsys, "explain", "--model", f"raises.py:{name}")


@pytest.mark.parametrize("text", ["1/0\n", "import absent_package\n", "x = (\n"])
def test_a_file_that_does_not_run_is_one_sentence(files, folder, capsys, text):
    (folder / "bad.py").write_text(text)
    assert "bad.py:net raised" in fails(capsys, "explain", "--model", "bad.py:net")
