// Large outputs on huge pages.
#pragma once
#include <cstddef>

namespace cvperf {

// Asks for huge pages behind memory that is about to be written for the first time. The first touch of a
// 4 KiB page costs about as much as filling it several times, which for an output of tens of megabytes is more
// than computing it. A hint: nothing happens where the system has no huge pages, or for small blocks.
void prefer_huge_pages(void* memory, std::size_t bytes);

}  // namespace cvperf
