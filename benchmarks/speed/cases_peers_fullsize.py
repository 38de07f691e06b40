"""OpenCV's side of the large images: its matrices are prepared, and its threads set, before each call."""

from __future__ import annotations

from functools import partial

from contestant import Case
from inputs import full_theta, pixel_maps, random_images
from shapes import FULL_KINDS, FULL_SIZES, FULL_THREADS, SHRUNK_SIDE_PX, full_case


def opencv(size: str, kind: str, threads: int) -> Case:
    import cv2

    height, width = FULL_SIZES[size]
    image, theta = random_images((1, height, width, 3), "uint8")[0], full_theta(kind, height, width)
    out_width = SHRUNK_SIDE_PX if kind == "shrink" else width
    out_size = out_width, round(out_width * height / width)
    by = pixel_maps(theta[None], out_size[1], out_size[0])[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warp = cv2.warpPerspective if kind == "homography" else cv2.warpAffine

    def run() -> object:
        cv2.setNumThreads(threads)
        # Averaged first, where the output is much smaller, as ours does.
        seen = cv2.resize(image, out_size, interpolation=cv2.INTER_AREA) if kind == "shrink" else image
        return warp(seen, by, out_size, flags=flags)

    return run, 1


CASES = {
    full_case("opencv", size, kind, threads): partial(opencv, size, kind, threads)
    for size in FULL_SIZES
    for kind in FULL_KINDS
    for threads in FULL_THREADS
}
