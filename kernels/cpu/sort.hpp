// Stable orders of keys, for NMS: by descending score, and by class. Linear-time (radix, counting) sorts;
// compiled once, at the baseline instruction set, since they are bound by memory and not by arithmetic.
#pragma once
#include <cstdint>

#include "dtype.hpp"

namespace cvperf {

// order[0..n): the indices of scores[0..n) (f16, bf16, f32 or f64) from the highest to the lowest score.
// Equal scores keep index order, -0 equals +0, and NaN comes first: torch.sort(descending=True, stable=True).
// Up to num_threads threads work where that pays. The second form works in `scratch`, order_scratch_bytes(dtype, n)
// bytes at an address that suits any type, and allocates nothing.
void order_by_score(const void* scores, DType dtype, std::int64_t n, std::int64_t* order, int num_threads);
void order_by_score(const void* scores, DType dtype, std::int64_t n, std::int64_t* order, void* scratch,
                    int num_threads);
std::size_t order_scratch_bytes(DType dtype, std::int64_t n);

// Groups the boxes order[0..n) by class, classes[box], in the order that they have.
// members[0..n): the boxes of the first class, then those of the next class, and so on; class c has
// members[starts[c]..starts[c + 1]). `starts` has room for n + 1. Returns the number of classes.
std::int64_t group_by_class(const std::int64_t* classes, const std::int64_t* order, std::int64_t n,
                            std::int64_t* members, std::int64_t* starts);

}  // namespace cvperf
