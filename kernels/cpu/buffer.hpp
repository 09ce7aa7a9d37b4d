// Aligned scratch memory, uninitialised. Kernels use this in place of std::vector: the body of a
// standard template compiled for AVX-512 could be the copy that the linker keeps for every caller.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <new>

namespace cvperf {
namespace CVPERF_ISA {

template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) {
    const std::size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes ? bytes : 64));
    if (!data_) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  T* data_;
};

}  // namespace CVPERF_ISA
}  // namespace cvperf
