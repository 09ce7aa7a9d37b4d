// Memory for large outputs, handed out again after its tensor is gone. The first touch of fresh pages costs as much as
// computing some outputs (50 MB: 3 ms for the kernel to clear huge pages on two threads, 14 ms in small ones), and
// glibc maps blocks beyond 32 MB anew every time. What is free is kept up to a limit, the latest blocks first.
#include <cstdlib>
#include <mutex>
#include <new>

#include "bindings.hpp"
#include "pages.hpp"

namespace cvperf {
namespace {

constexpr std::size_t kUnit = 2 << 20;  // a huge page

struct Memory {
  void* data;
  std::size_t bytes;
};

class Pool {
 public:
  void set_limit(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
    trim();
  }
  Memory take(std::size_t bytes) {
    const std::size_t needed = (bytes + kUnit - 1) / kUnit * kUnit;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::size_t i = free_.size(); i-- > 0;) {
      if (free_[i].bytes < needed || free_[i].bytes > needed + needed / 4) continue;  // a quarter idle at most
      const Memory found = free_[i];
      free_.erase(free_.begin() + i);
      held_ -= found.bytes;
      return found;
    }
    void* data = std::aligned_alloc(kUnit, needed);
    if (!data) throw std::bad_alloc();
    prefer_huge_pages(data, needed);
    return {data, needed};
  }
  void give(const Memory& memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(memory);
    held_ += memory.bytes;
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
  std::vector<Memory> free_;  // oldest first
  std::size_t held_ = 0, limit_ = 0;
};

Pool& pool() {
  static Pool* const all = new Pool;  // never destroyed: tensors may outlive the module
  return *all;
}

class Block {
 public:
  explicit Block(std::size_t bytes) : bytes_(bytes), memory_(pool().take(bytes)) {}
  ~Block() { pool().give(memory_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  py::buffer_info view() { return {memory_.data, 1, "B", static_cast<py::ssize_t>(bytes_)}; }

 private:
  std::size_t bytes_;
  Memory memory_;
};

}  // namespace

void bind_memory(py::module_& m) {
  py::class_<Block>(m, "Block", py::buffer_protocol(), "Uninitialised memory that is recycled when the object goes.")
      .def(py::init<std::size_t>(), py::arg("bytes"))
      .def_buffer(&Block::view);
  m.def(
      "keep_free", [](std::size_t bytes) { pool().set_limit(bytes); }, py::arg("bytes"),
      "How much memory of blocks that are gone is kept for later ones.");
}

}  // namespace cvperf
