"""Names of classes from a file."""

import json

import pytest

from captum_layermask.errors import InputError
from captum_layermask.models.class_names import read_class_names

NAMES = ("ant", "red, wet bee", "café")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".txt", "ant\nred, wet bee\ncafé\n"),
        (".txt", "\ufeffant\r\nred, wet bee \r\n café\r\n\r\n"),
        (".names", "ant\nred, wet bee\ncafé"),
        (".json", json.dumps(NAMES)),
        (".JSON", json.dumps({"2": "café", "0": "ant", "1": "red, wet bee"})),
        (".json", json.dumps({"café": 2, "ant": 0, "red, wet bee": 1})),
        (".json", json.dumps({"model_type": "resnet", "id2label": dict(enumerate(NAMES))})),
        (".json", json.dumps({"id2label": NAMES})),
    ],
)
def test_each_form_is_read(tmp_path, suffix, content):
    path = tmp_path / f"names{suffix}"
    path.write_text(content, encoding="utf-8", newline="")
    assert read_class_names(path) == NAMES


@pytest.mark.parametrize(
    ("suffix", "content", "what"),
    [
        (".txt", b"", "there are no class names"),
        (".txt", b"\n \n", "there are no class names"),
        (".txt", b"ant\n\nbee\n", "class name number 2 .* is ''"),
        (".txt", b"caf\xe9\n", "no UTF-8"),
        (".json", b"[1, 2", "is no JSON"),
        (".json", b"[" * 100_000, "is no JSON"),
        (".json", b"[]", "there are no class names"),
        (".json", b"{}", "there are no class names"),
        (".json", b"3", "give a list of class names"),
        (".json", b'["ant", 3]', "class name number 2 .* is 3"),
        (".json", b'["ant", ""]', "class name number 2 .* is ''"),
        (".json", b'{"0": "ant", "2": "bee"}', "have gaps or come twice; number the classes from 0 to 1"),
        (".json", b'{"0": "ant", "00": "bee"}', "have gaps or come twice"),
        (".json", b'{"ant": 1, "bee": 1}', "have gaps or come twice"),
        (".json", b'{"ant": true, "bee": false}', "no class names by index"),
        (".json", b'{"ant": "bee"}', "no class names by index"),
    ],
)
def test_anything_else_is_one_sentence(tmp_path, suffix, content, what):
    path = tmp_path / f"names{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what) as caught:
        read_class_names(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "absent.txt"):
        with pytest.raises(InputError, match="cannot read class names"):
            read_class_names(path)
