// Python's access to the memory that large outputs are recycled in.
#include "large_blocks.hpp"

#include "bindings.hpp"

namespace cvperf {
namespace {

class Block {
 public:
  explicit Block(std::size_t bytes) : bytes_(bytes), memory_(take_large_block(bytes)) {}
  ~Block() { give_large_block(memory_); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  py::buffer_info view() { return {memory_.data, 1, "B", static_cast<py::ssize_t>(bytes_)}; }

 private:
  std::size_t bytes_;
  LargeBlock memory_;
};

}  // namespace

void bind_memory(py::module_& m) {
  py::class_<Block>(m, "Block", py::buffer_protocol(), "Uninitialised memory that is recycled when the object goes.")
      .def(py::init<std::size_t>(), py::arg("bytes"))
      .def_buffer(&Block::view);
  m.def(
      "keep_free", [](std::size_t bytes) { keep_large_blocks(bytes); }, py::arg("bytes"),
      "How much memory of blocks that are gone is kept for later ones.");
}

}  // namespace cvperf
