"""The files of a folder: links, odd names, and what cannot be listed."""

import os

import pytest
import torch
from PIL import Image
from small_evaluation import CLASSES, class_folders, picture, save_pictures, small_model

from captum_layermask import InputError
from captum_layermask.errors import LeftOutError
from captum_layermask.evaluate.data.dataset import find_images
from captum_layermask.evaluate.data.folders import require_outside


def test_linked_folders_and_files_are_read_like_others(tmp_path):
    elsewhere = save_pictures(tmp_path / "elsewhere", ["cats/1.png", "cats/deep/2.png", "3.png"])
    folder = save_pictures(tmp_path / "data", ["ant/0.png"])
    (folder / "cat").symlink_to(elsewhere / "cats")
    (folder / "ant" / "1.png").symlink_to(elsewhere / "3.png")
    (tmp_path / "whole").symlink_to(folder)
    for where in (folder, tmp_path / "whole"):
        images = find_images(where, CLASSES).images
        assert images == ("ant/0.png", "ant/1.png", "cat/1.png", "cat/deep/2.png")


def test_links_in_a_circle_come_to_an_end(tmp_path):
    folder = save_pictures(tmp_path / "data", ["ant/0.png", "bee/1.png"])
    (folder / "ant" / "up").symlink_to(folder)
    (folder / "ant" / "bees").symlink_to(folder / "bee")
    (folder / "bee" / "ants").symlink_to(folder / "ant")
    images = find_images(folder, CLASSES).images
    assert images == ("ant/0.png", "ant/bees/1.png", "bee/1.png", "bee/ants/0.png")


def test_links_that_lead_nowhere_are_not_passed_over(tmp_path):
    folder = class_folders(tmp_path / "data", 1)
    (folder / "ant" / "gone.png").symlink_to(tmp_path / "gone.png")
    data = find_images(folder, CLASSES)
    assert data.images == ("ant/00.png", "ant/gone.png")
    with pytest.raises(LeftOutError, match="no file"):
        data.pixels("ant/gone.png", small_model().preprocess)
    (folder / "bee").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"the link .*bee' leads nowhere"):
        find_images(folder, CLASSES)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path, monkeypatch):
    folder = class_folders(tmp_path, 2)
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"cannot list the folder .*bee' \(Permission denied\)"):
        find_images(folder, CLASSES)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    folder = class_folders(tmp_path, 1)
    os.mkfifo(folder / "ant" / "pipe.png")
    assert find_images(folder, CLASSES).images == ("ant/00.png",)


def test_names_that_are_no_text_get_one_that_is(tmp_path):
    folder = class_folders(tmp_path / "data", 1)
    odd = os.fsdecode(b"caf\xe9")
    picture(1).save(folder / "ant" / f"{odd}.png")
    (tmp_path / "masks").mkdir()
    Image.new("L", (64, 56), 255).save(tmp_path / "masks" / f"{odd}.{odd}.png")
    data = find_images(folder, CLASSES, masks=tmp_path / "masks")
    assert data.images == ("ant/00.png", "ant/caf\\xe9.png")
    assert data.labels["ant/caf\\xe9.png"] == 0
    preprocess = small_model().preprocess
    assert torch.equal(data.pixels("ant/caf\\xe9.png", preprocess), preprocess(picture(1)))
    assert data.mask("ant/caf\\xe9.png", "caf\\xe9", preprocess).all()
    picture(2).save(folder / "ant" / "caf\\xe9.png")
    with pytest.raises(InputError, match="two files are called"):
        find_images(folder, CLASSES)


def test_no_folder(tmp_path):
    for options in ({}, {"masks": tmp_path / "no"}, {"saliency": tmp_path / "no"}):
        folder = class_folders(tmp_path / "data", 1) if options else tmp_path / "no"
        with pytest.raises(InputError, match=r"there is no folder .*no'"):
            find_images(folder, CLASSES, **options)


def test_a_run_does_not_write_where_it_reads(tmp_path):
    data, masks = tmp_path / "data", tmp_path / "masks"
    (tmp_path / "link").symlink_to(data)
    data.mkdir()
    for out in (data, data / "out", data / "deep" / "out", tmp_path / "link" / "out", masks / "x"):
        with pytest.raises(InputError, match="give a folder outside it"):
            require_outside(out, data, None, masks)
    for out in (tmp_path, tmp_path / "out", tmp_path / "data2"):
        require_outside(out, data, None, masks)
