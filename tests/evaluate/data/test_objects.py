"""Which classes are right for the object of a mask."""

from captum_layermask.evaluate.data.objects import object_classes, objects_with_classes
from captum_layermask.models.class_names import imagenet_class_names


def test_class_names_are_classes_or_for_imagenet_what_lies_above_them():
    assert object_classes("Dark_Green", ("red", "dark green", "dark green")) == (1, 2)
    assert object_classes("animal", ("red", "cat")) == ()
    imagenet = imagenet_class_names()
    names = {imagenet[i] for i in object_classes("cat", imagenet)}
    assert {"tabby", "Persian cat"} <= names
    assert "golden retriever" not in names
    assert object_classes("traffic_light", imagenet) == (imagenet.index("traffic light"),)


def test_masks_of_other_things_than_the_label_are_left_out():
    class_names = ("red", "green", "blue")
    masks = ["red", "green", "object"]
    assert objects_with_classes(masks, 1, class_names) == {"green": (1,), "object": (1,)}
    assert objects_with_classes(masks, None, class_names) == {"red": (0,), "green": (1,)}
