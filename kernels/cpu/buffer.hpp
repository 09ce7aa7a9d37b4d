// Aligned scratch memory, uninitialised. Kernels use this in place of std::vector: the body of a
// standard template compiled for AVX-512 could be the copy that the linker keeps for every caller.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "large_blocks.hpp"

namespace cvperf {
namespace CVPERF_ISA {

constexpr std::size_t kLargeBuffer = 1 << 20;  // bytes, from which on a buffer is a block that is recycled

// Up to `kInline` elements take no allocation, and neither do none.
template <class T, std::size_t kInline = 0>
class Buffer {
 public:
  explicit Buffer(std::size_t count) {
    if (count <= kInline) {
      data_ = reinterpret_cast<T*>(inline_);
      return;
    }
    if (bytes_of(count) >= kLargeBuffer) {
      large_ = take_large_block(bytes_of(count));
      data_ = static_cast<T*>(large_.data);
      return;
    }
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes_of(count)));
    if (!data_) throw std::bad_alloc();
  }
  ~Buffer() {
    if (large_.data)
      give_large_block(large_);
    else if (data_ != reinterpret_cast<T*>(inline_))
      std::free(data_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }

  // Of so many elements, in whole cache lines.
  static constexpr std::size_t bytes_of(std::size_t count) { return (count * sizeof(T) + 63) / 64 * 64; }

 private:
  T* data_;
  LargeBlock large_;
  alignas(64) unsigned char inline_[kInline ? kInline * sizeof(T) : 1];
};

// Several arrays cut from one allocation: each costs a small layer as much as its arithmetic.
class Cutter {
 public:
  explicit Cutter(char* memory) : at_(memory) {}
  template <class T>
  T* take(std::int64_t count) {
    T* const taken = reinterpret_cast<T*>(at_);
    at_ += Buffer<T>::bytes_of(static_cast<std::size_t>(count));
    return taken;
  }

 private:
  char* at_;
};

}  // namespace CVPERF_ISA
}  // namespace cvperf
