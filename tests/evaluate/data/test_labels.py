"""What class each image of a folder is of: its layout tells, or a file of labels."""

import pytest
from small_evaluation import CLASSES, save_pictures

from captum_layermask import InputError, UnknownNameError
from captum_layermask.evaluate.data.dataset import find_images

THOUSAND = [f"class {index}" for index in range(1000)]

TABBY, GOLDFISH = "n02123045", "n01443537"  # classes 281 and 1


def test_folders_named_by_wnid(tmp_path):
    save_pictures(tmp_path, [f"{TABBY}/a.JPEG", f"{GOLDFISH}/deep/b.png"])
    data = find_images(tmp_path, THOUSAND)
    assert data.images == (f"{GOLDFISH}/deep/b.png", f"{TABBY}/a.JPEG")
    assert data.labels == {f"{TABBY}/a.JPEG": 281, f"{GOLDFISH}/deep/b.png": 1}


def test_folders_named_by_class_or_index(tmp_path):
    save_pictures(tmp_path, ["bee/1.png", "Emu/1.png", "5/1.png"])
    assert find_images(tmp_path, CLASSES).labels == {"bee/1.png": 1, "Emu/1.png": 4, "5/1.png": 5}


def test_a_model_may_name_its_classes_by_wnid(tmp_path):
    save_pictures(tmp_path, [f"{TABBY}/a.png"])
    assert find_images(tmp_path, [GOLDFISH, TABBY]).labels == {f"{TABBY}/a.png": 1}


def test_files_named_by_wnid(tmp_path):
    save_pictures(tmp_path, [f"{TABBY}_tabby.JPEG", f"{GOLDFISH}_7_goldfish.JPEG"])
    (tmp_path / "README.md").write_text("not a picture")
    (tmp_path / f".{TABBY}_hidden.JPEG").write_text("")
    data = find_images(tmp_path, THOUSAND)
    assert data.labels == {f"{GOLDFISH}_7_goldfish.JPEG": 1, f"{TABBY}_tabby.JPEG": 281}


def labels_file(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("val.txt", f"a.png {TABBY}\nb c.png\t1\n\n unused.png class 7\n"),
        ("val.txt", f"\ufeffa\t{TABBY}\r\nb c\tclass 1\r\n"),
        ("val.json", f'{{"a.png": "{TABBY}", "b c": 1, "unused": 3}}'),
        (
            "VAL.CSV",
            f"ImageId,PredictionString\nb c,{GOLDFISH} 1 1 2 2\na,{TABBY} 85 1 499 272 {GOLDFISH} 1 2 3 4 ",
        ),
    ],
)
def test_a_file_tells_the_labels_of_any_images(tmp_path, name, content):
    file = labels_file(tmp_path / "elsewhere", name, content)
    folder = save_pictures(tmp_path / "data", ["a.png", "b c.png"])
    assert find_images(folder, THOUSAND, labels=file).labels == {"a.png": 281, "b c.png": 1}


def test_a_file_of_labels_takes_the_place_of_the_layout(tmp_path):
    folder = save_pictures(tmp_path / "data", ["ant/1.png", "bee/1.png"])
    file = labels_file(tmp_path, "labels.txt", "ant/1.png fox\nbee/1 emu\n")
    assert find_images(folder, CLASSES, labels=file).labels == {"ant/1.png": 5, "bee/1.png": 4}


def test_labels_are_looked_for_nowhere(tmp_path):
    folder = save_pictures(tmp_path / "a" / "b" / "val", ["ILSVRC2012_val_00000001.JPEG"])
    for above in (folder, *folder.parents[:3]):
        labels_file(
            above, "LOC_val_solution.csv", f"ImageId,PredictionString\nILSVRC2012_val_00000001,{TABBY} 1"
        )
        labels_file(above, "ILSVRC2012_validation_ground_truth.txt", "1\n")
        labels_file(above, "meta.mat", b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(InputError, match=r"cannot tell the classes .* file of their labels"):
        find_images(folder, THOUSAND)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", "a.png"),
        ("x.txt", b"a.png \xff"),
        ("x.txt", b"MATLAB 5.0 MAT-file\x00\xe2"),
        ("x.json", "{"),
        ("x.json", "[" * 100_000),
        ("x.json", '["ab"]'),
        ("x.json", '[["a.png", "ant"]]'),
        ("x.json", '{"a.png": true}'),
        ("x.json", '{"a.png": {"label": "ant"}}'),
        ("x.json", '{"a.png": ["ant"]}'),
        ("x.csv", "image,label\na.png,ant"),
        ("x.csv", "ImageId,PredictionString\na.png"),
        ("x.csv", "ImageId,PredictionString\na.png,"),
        ("x.csv", "ImageId,PredictionString\na.png," + "1" * 200_000),
    ],
)
def test_files_of_labels_that_make_no_sense(tmp_path, name, content):
    file = labels_file(tmp_path / "labels", name, content)
    with pytest.raises(InputError, match=rf"cannot read labels from .*{name}"):
        find_images(save_pictures(tmp_path / "data", ["a.png"]), CLASSES, labels=file)


@pytest.mark.parametrize(
    ("name", "content", "error", "what"),
    [
        ("x.txt", "b.png ant", InputError, "no label of 'a.png' in .*x.txt"),
        ("x.txt", "a.png be", UnknownNameError, "did you mean 'bee'"),
        ("x.txt", f"a.png {TABBY}", InputError, "ImageNet's 1000 classes and the model knows 6"),
        ("x.txt", "a.png ant\na.png bee", InputError, "two labels for 'a.png'"),
        ("x.json", '{"a.png": "ant", "a.png": "bee"}', InputError, "two labels for 'a.png'"),
        ("x.txt", "a.png " + "1" * 5000, InputError, "a label of 5000 letters"),
        ("x.json", '{"a.png": 6}', InputError, "there is no class 6"),
        ("no.txt", None, InputError, r"cannot read the labels .*no.txt' \(No such file"),
    ],
)
def test_labels_that_make_no_sense(tmp_path, name, content, error, what):
    file = tmp_path / name if content is None else labels_file(tmp_path / "labels", name, content)
    with pytest.raises(error, match=what):
        find_images(save_pictures(tmp_path / "data", ["a.png"]), CLASSES, labels=file)


@pytest.mark.parametrize("names", [[f"{TABBY}/a.png"], [f"{TABBY}_a.png"]])
def test_imagenets_classes_need_a_model_that_knows_them(tmp_path, names):
    with pytest.raises(InputError, match="ImageNet's 1000 classes and the model knows 6"):
        find_images(save_pictures(tmp_path, names), CLASSES)


@pytest.mark.parametrize(
    ("names", "error", "what"),
    [
        ([], InputError, "there are no images"),
        (["a.png"], InputError, "cannot tell the classes"),
        (["a.png", "bee/a.png"], InputError, "cannot tell the classes"),
        (["a.png", f"{TABBY}_a.png"], InputError, "cannot tell the classes"),
        (["be/a.png"], UnknownNameError, "did you mean 'bee'"),
        (["n99999999/a.png"], UnknownNameError, "n99999999"),
        (["1000/a.png"], InputError, "there is no class 1000"),
    ],
)
def test_folders_that_make_no_sense(tmp_path, names, error, what):
    with pytest.raises(error, match=what):
        find_images(save_pictures(tmp_path, names), ["bee", *THOUSAND[1:]])


def test_classes_may_be_unknown_where_they_are_not_needed(tmp_path):
    data = find_images(save_pictures(tmp_path, ["b.png", "a.jpg"]), CLASSES, labelled=False)
    assert data.images == ("a.jpg", "b.png")
    assert data.labels == {}
