"""Greedy non-maximum suppression, all of it on the device.

Idea: boxes lie sorted by score, as planes x1, y1, x2, y2 (``nms_boxes``). They are settled in
chunks of some thousand. ``nms_overlaps`` finds which boxes of a chunk overlap too much, for all
chunks in one launch: a bit a pair, 32 earlier boxes a word, and a thread holds whole words, so no
lane talks to another. ``nms_solve`` then settles one chunk in one program, and ``nms_suppress``
compares the boxes of all later chunks with those that the chunk kept, on all multiprocessors. The
work is N * (chunk + kept) / 2 pairs, the memory N * chunk / 8 bytes: 51 MB for 100,000 boxes, where
a mask of all pairs takes 1.25 GB.

Settling: box i stays unless a box before it that stays overlaps it. Since it only looks back this
has one solution, and iterating from "all stay" reaches it: after k rounds every box with a chain of
suppressors shorter than k is right. ``nms_solve`` takes 512 boxes at a time: first come the boxes
kept before them in the chunk, a stream of words whose addresses depend on nothing; then rounds
over the 512 x 512 bits, which lie in registers. Two to five rounds are usual, and 512 the most (a
chain where each box overlaps the next alone). A kept box costs no trip to memory.

Exactness: the answer is the CPU kernel's (kernels/cpu/nms_boxes.hpp). ``iou > t`` asks for the
exactly rounded division. Two screens spare it, with s = t / (1 + t): the answer is no where
``inter <= s * (area_i + area_j) * (1 - 2**-20)``, and yes where ``inter`` exceeds that product with
``1 + 2**-20``, whatever was rounded. Both are sums of two numbers known for each box. Where a tile
has a pair in between, it is divided (``EXACT``); launch without fused multiply-adds, which would
round less often than the CPU. A box without area, or with one that is NaN or infinite, neither
suppresses nor is suppressed at t >= 0: its screens are infinite. Below t = 1e-30 all is divided.

Prediction for an H100 (not yet run on hardware): a pair takes 10 instructions of the half-rate pipe
(min, max, compare, select) and 5 of the other, 20 cycles for 32 pairs: 1.4e12 pairs a second. At
10,000 boxes of which half are kept: 37 M pairs, 27 us; 20 blocks to settle, 1.2 us each, and 2.6 MB
of words at the 85 GB/s of one multiprocessor, 55 us; the sort (torch.sort) 30 us, and 2 us between
each of ten launches: 130 us, a third of it bound by the pairs' instructions. Launched from Python
one by one they take longer than they run, so only a CUDA graph of ``nms_padded`` will show it.

Source: the bit mask of torchvision's nms_kernel.cu; the rounds are the fixed-point view of a greedy
independent set (Blelloch et al., "Greedy Sequential Maximal Independent Set and Matching are
Parallel on Average", SPAA 2012), whose number is O(log(n)**2) for scores in random order.
"""

from __future__ import annotations

import triton
import triton.language as tl

PLANES = tl.constexpr(6)
"""x1, y1, x2, y2 and both screens of each box, each ``pitch`` apart."""
LEAST_THRESHOLD = tl.constexpr(1e-30)  # below, the screens would underflow
LEAST_SCREEN = tl.constexpr(2.3509887016445750e-38)  # twice the least normal number
MOST_AREA = tl.constexpr(1e38)  # above, the sum of two areas may be infinite, and their IoU 0
STEP = tl.constexpr(8)  # earlier boxes that a thread compares at a time


@triton.jit
def nms_keys(scores, keys, count, BLOCK: tl.constexpr):
    """int32 keys in the order of the scores: NaN highest whatever its sign, -0 equal to 0."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bits = tl.load(scores + i, mask=i < count, other=0.0).to(tl.float32).to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    key = tl.where(bits < 0, -magnitude, magnitude)
    key = tl.where(magnitude > 0x7F800000, 0x7FFFFFFF, key)
    tl.store(keys + i, key, mask=i < count)


@triton.jit(do_not_specialize=["count", "chunks"])
def nms_boxes(
    boxes, order, planes, removed, ends,
    count, pitch, chunks, share_below, share_above, BLOCK: tl.constexpr,
):  # fmt: skip
    """Boxes in ``order`` as float32 planes with their screens; boxes of NaN up to ``pitch``."""
    image = tl.program_id(1).to(tl.int64)
    rank = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = rank < count
    index = tl.load(order + image * count + rank, mask=real, other=0)
    corner = boxes + (image * count + index) * 4
    x1 = tl.load(corner, mask=real, other=float("nan")).to(tl.float32)
    y1 = tl.load(corner + 1, mask=real, other=float("nan")).to(tl.float32)
    x2 = tl.load(corner + 2, mask=real, other=float("nan")).to(tl.float32)
    y2 = tl.load(corner + 3, mask=real, other=float("nan")).to(tl.float32)
    area = (x2 - x1) * (y2 - y1)
    below = area * share_below
    above = area * share_above
    extreme = (below < LEAST_SCREEN) | (area > MOST_AREA)
    inert = (x2 > x1) & (y2 > y1) & (area > 0.0) & (area < float("inf")) == 0
    below = tl.where(inert, float("inf"), tl.where(below < LEAST_SCREEN, 0.0, below))
    above = tl.where(inert | extreme, float("inf"), above)
    plane = planes + image * PLANES * pitch + rank
    tl.store(plane, x1)
    tl.store(plane + pitch, y1)
    tl.store(plane + 2 * pitch, x2)
    tl.store(plane + 3 * pitch, y2)
    tl.store(plane + 4 * pitch, below)
    tl.store(plane + 5 * pitch, above)
    tl.store(removed + image * pitch + rank, tl.zeros([BLOCK], tl.int8))
    if tl.program_id(0) == 0:
        tl.store(ends + image * (chunks + 1), 0)


@triton.jit
def _load_boxes(plane, pitch, mask):
    """x1, y1, x2, y2 and the screens; NaN, which no comparison holds for, where not ``mask``."""
    nan = float("nan")
    x1 = tl.load(plane, mask=mask, other=nan)
    y1 = tl.load(plane + pitch, mask=mask, other=nan)
    x2 = tl.load(plane + 2 * pitch, mask=mask, other=nan)
    y2 = tl.load(plane + 3 * pitch, mask=mask, other=nan)
    below = tl.load(plane + 4 * pitch, mask=mask, other=nan)
    above = tl.load(plane + 5 * pitch, mask=mask, other=nan)
    return x1, y1, x2, y2, below, above


@triton.jit
def _bits(flags, bit):
    """[J, I] flags as [I] words: flag j sets bit j."""
    return tl.reduce_or(tl.where(flags, bit[:, None], 0), 0)


@triton.jit
def _word(
    planes, pitch, ranks, position, end, least_rank, box, threshold,
    LISTED: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Which of 32 earlier boxes overlap each of ``box`` too much: a bit each.

    The earlier ones are those of ``ranks[position:end]`` that are not below ``least_rank``
    (LISTED), or number ``position`` and on. Returns two words: the certain overlaps, and those that
    are not certain to be none. EXACT: both are the truth.
    """
    x1, y1, x2, y2, below, above = box
    certain = tl.zeros_like(x1).to(tl.int32)
    possible = certain
    for step in range(0, 32, STEP):
        number = step + tl.arange(0, STEP)
        earlier = position + number
        real = earlier < end
        if LISTED:
            earlier = tl.load(ranks + earlier, mask=real, other=-1)
            real = earlier >= least_rank
        bit = 1 << number
        u1, v1, u2, v2, its_below, its_above = _load_boxes(planes + earlier, pitch, real)
        width = tl.maximum(
            tl.minimum(x2[None, :], u2[:, None]) - tl.maximum(x1[None, :], u1[:, None]), 0.0
        )
        height = tl.minimum(y2[None, :], v2[:, None]) - tl.maximum(y1[None, :], v1[:, None])
        if EXACT:
            inter = width * tl.maximum(height, 0.0)
            area = (x2 - x1) * (y2 - y1)
            its_area = (u2 - u1) * (v2 - v1)
            iou = tl.div_rn(inter, its_area[:, None] + area[None, :] - inter)
            certain |= _bits(iou > threshold, bit)
            possible = certain
        else:
            inter = width * height
            certain |= _bits(inter > its_above[:, None] + above[None, :], bit)
            possible |= _bits(inter > its_below[:, None] + below[None, :], bit)
    return certain, possible


@triton.jit
def _overlaps(
    planes, pitch, ranks, position, end, least_rank, box, threshold, LISTED: tl.constexpr
):
    """The true word of ``_word``: divides only where the screens leave a doubt."""
    certain, possible = _word(
        planes, pitch, ranks, position, end, least_rank, box, threshold, LISTED, False
    )
    doubtful = tl.max((certain != possible).to(tl.int32), 0) != 0
    if doubtful | (threshold < LEAST_THRESHOLD):
        certain, possible = _word(
            planes, pitch, ranks, position, end, least_rank, box, threshold, LISTED, True
        )
    return certain


@triton.jit
def _low_bits(count):
    """A word whose lowest ``count`` bits are set; ``count`` may lie outside 0 to 32."""
    some = (1 << tl.minimum(tl.maximum(count, 0), 31)) - 1
    return tl.where(count >= 32, -1, some)


@triton.jit(do_not_specialize=["count"])
def nms_overlaps(
    planes, words, first, count, pitch, chunk, threshold,
    COLUMNS: tl.constexpr, WORDS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """words[image, w, i], bit b: box ``32 w + b`` of i's chunk, before i, overlaps it too much.

    One program: ``COLUMNS`` boxes i against ``32 WORDS`` boxes of their chunk. Words with no box
    before i stay unwritten. CLASSES: boxes are sorted by class, ``first[i]`` is where that of i
    begins.
    """
    image = tl.program_id(2).to(tl.int64)
    begin = tl.program_id(0) * COLUMNS
    word = tl.program_id(1) * WORDS
    earliest = begin // chunk * chunk + word * 32
    if earliest < begin + COLUMNS:
        planes += image * PLANES * pitch
        words += image * (chunk // 32) * pitch
        i = begin + tl.arange(0, COLUMNS)
        its_first = tl.zeros([COLUMNS], tl.int32)
        apart = False
        if CLASSES:
            its_first = tl.load(first + i, mask=i < count, other=2147483647)
            apart = tl.min(its_first, 0) >= earliest + 32 * WORDS
        if apart:
            for w in range(WORDS):
                tl.store(words + (word + w) * pitch + i, tl.zeros([COLUMNS], tl.int32))
        else:
            box = _load_boxes(planes + i, pitch, i < pitch)
            for w in range(WORDS):
                position = earliest + 32 * w
                found = _overlaps(planes, pitch, first, position, pitch, 0, box, threshold, False)
                found &= _low_bits(i - position)
                if CLASSES:
                    found &= ~_low_bits(its_first - position)
                tl.store(words + (word + w) * pitch + i, found)


@triton.jit(do_not_specialize=["count", "number", "chunks", "limit"])
def nms_suppress(
    planes, removed, kept, ends, first, count, pitch, chunk, number, chunks, limit, threshold,
    COLUMNS: tl.constexpr, WORDS: tl.constexpr, CLASSES: tl.constexpr,
):  # fmt: skip
    """Marks the boxes of later chunks that a box kept of chunk ``number`` suppresses.

    One program: ``COLUMNS`` boxes against ``32 WORDS`` kept ones. Several may mark the same box;
    all write 1.
    """
    image = tl.program_id(2).to(tl.int64)
    ends += image * (chunks + 1) + number
    end = tl.load(ends + 1)
    position = tl.load(ends) + tl.program_id(1) * WORDS * 32
    after = (number + 1) * chunk
    begin = after + tl.program_id(0) * COLUMNS
    useful = (position < end) & (end < limit)
    class_begin = 0
    if CLASSES:  # of the chunk's classes only the last can go on, from class_begin
        class_begin = tl.load(first + after)
        useful = useful & (tl.load(first + begin, mask=begin < count, other=2147483647) < after)
    if useful:
        planes += image * PLANES * pitch
        removed += image * pitch
        kept += image * limit
        i = begin + tl.arange(0, COLUMNS)
        box = _load_boxes(planes + i, pitch, i < pitch)
        hits = tl.zeros([COLUMNS], tl.int32)
        for w in range(WORDS):
            hits |= _overlaps(
                planes, pitch, kept, position + 32 * w, end, class_begin, box, threshold, True
            )
        suppressed = hits != 0
        if CLASSES:
            suppressed = suppressed & (tl.load(first + i, mask=i < count, other=2147483647) < after)
        tl.store(removed + i, tl.full([COLUMNS], 1, tl.int8), mask=suppressed)


@triton.jit
def _packed(flags, BLOCK: tl.constexpr):
    """[BLOCK] flags as [BLOCK / 32] words."""
    rows = tl.reshape(flags.to(tl.int32), [BLOCK // 32, 32])
    return tl.reduce_or(rows << tl.arange(0, 32)[None, :], 1)


@triton.jit(do_not_specialize=["count", "number", "chunks", "limit", "padded_to"])
def nms_solve(
    words, removed, order, settled, kept, ends, indices, counts, stays,
    count, pitch, chunk, number, chunks, limit, padded_to,
    BLOCK: tl.constexpr, STREAM: tl.constexpr, STAGES: tl.constexpr, FLAGS: tl.constexpr,
):  # fmt: skip
    """Settles chunk ``number`` of each image, one program an image, after the chunks before it.

    kept[image, limit]: ranks of the boxes kept, those of this chunk from ``ends[image, number]`` to
    ``ends[image, number + 1]``; indices: the boxes they are. Both end at ``limit`` boxes. FLAGS:
    instead of indices, ``stays`` of every box. settled[image, chunk / 32]: scratch, the kept boxes
    of this chunk as bits.
    """
    image = tl.program_id(0).to(tl.int64)
    words += image * (chunk // 32) * pitch
    settled += image * (chunk // 32)
    removed += image * pitch
    order += image * count
    kept += image * limit
    ends += image * (chunks + 1) + number
    begin = number * chunk
    total = tl.load(ends)
    for offset in range(0, chunk, BLOCK):
        if (begin + offset < count) & (total < limit):
            i = begin + offset + tl.arange(0, BLOCK)
            column = words + i[None, :]
            group = tl.arange(0, BLOCK // 32)
            back = group[:, None] <= (tl.arange(0, BLOCK) // 32)[None, :]
            own = offset // 32 + group
            tile = tl.load(column + own[:, None] * pitch, mask=back, other=0)
            hits = tl.load(removed + i).to(tl.int32)
            for row in tl.range(0, offset // 32, STREAM, num_stages=STAGES):
                rows = row + tl.arange(0, STREAM)
                before = tl.load(column + rows[:, None] * pitch)
                hits |= tl.reduce_or(before & tl.load(settled + rows)[:, None], 0)
            alive = (hits == 0) & (i < count)
            bits = _packed(alive, BLOCK)
            changed = 1
            while changed != 0:
                hits = tl.reduce_or(tile & bits[:, None], 0)
                better = _packed(alive & (hits == 0), BLOCK)
                changed = tl.reduce_or(better ^ bits, 0)
                bits = better
            tl.store(settled + own, bits)
            tl.debug_barrier()  # later blocks of this program read them
            stay = alive & (hits == 0)
            ones = stay.to(tl.int32)
            place = total + tl.cumsum(ones, 0) - ones
            wanted = stay & (place < limit)
            tl.store(kept + place, i, mask=wanted)
            index = tl.load(order + i, mask=i < count, other=0)
            if FLAGS:
                tl.store(stays + index, stay, mask=i < count)
            else:
                tl.store(indices + image * padded_to + place, index, mask=wanted)
            total = tl.minimum(total + tl.sum(ones, 0), limit)
    tl.store(ends + 1, total)
    if number == chunks - 1:
        tl.store(counts + image, total.to(tl.int64))
        if not FLAGS:
            for rest in range(total, padded_to, BLOCK):
                place = rest + tl.arange(0, BLOCK)
                none = tl.full([BLOCK], -1, tl.int64)
                tl.store(indices + image * padded_to + place, none, mask=place < padded_to)
