"""Names of the 1,000 ImageNet classes, in the order of the usual classifiers."""


def imagenet_classes() -> tuple[str, ...]:
    """Return the names; imports torchvision, so it is asked only when somebody reads them."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)
