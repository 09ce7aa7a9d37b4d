// The first touch of fresh pages costs as much as computing some outputs (50 MB: 3 ms for the system to clear huge
// pages on two threads, 14 ms in small ones), and glibc maps blocks beyond 32 MB anew every time. What it hands out of
// its heap was touched before, and asking for huge pages then changes nothing. So blocks are kept, up to a limit, the
// latest first.
#include "large_blocks.hpp"

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "pages.hpp"

namespace cvperf {
namespace {

constexpr std::size_t kUnit = 2 << 20;  // a huge page

class Pool {
 public:
  void set_limit(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
    trim();
  }
  LargeBlock take(std::size_t bytes) {
    const std::size_t needed = (bytes + kUnit - 1) / kUnit * kUnit;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::size_t i = free_.size(); i-- > 0;) {
      if (free_[i].bytes < needed || free_[i].bytes > needed + needed / 4) continue;  // a quarter idle at most
      const LargeBlock found = free_[i];
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      held_ -= found.bytes;
      return found;
    }
    void* data = std::aligned_alloc(kUnit, needed);
    if (!data) throw std::bad_alloc();
    prefer_huge_pages(data, needed);
    return {data, needed};
  }
  void give(const LargeBlock& block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(block);
    held_ += block.bytes;
    trim();
  }

 private:
  void trim() {
    while (held_ > limit_) {
      std::free(free_.front().data);
      held_ -= free_.front().bytes;
      free_.erase(free_.begin());
    }
  }
  std::mutex mutex_;
  std::vector<LargeBlock> free_;  // oldest first
  std::size_t held_ = 0, limit_ = 0;
};

Pool& pool() {
  static Pool* const all = new Pool;  // never destroyed: tensors may outlive the module
  return *all;
}

}  // namespace

LargeBlock take_large_block(std::size_t bytes) { return pool().take(bytes); }
void give_large_block(const LargeBlock& block) { pool().give(block); }
void keep_large_blocks(std::size_t bytes) { pool().set_limit(bytes); }

}  // namespace cvperf
