// A kernel as a function that the tests call: its arguments come in one buffer, as the driver takes them.
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include "block.hpp"

namespace emulator {

// Reads arguments at their natural alignment.
class Arguments {
 public:
  Arguments(const char* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  template <class T>
  T next() {
    at_ = (at_ + alignof(T) - 1) / alignof(T) * alignof(T);
    if (at_ + sizeof(T) > bytes_) throw Error("the kernel takes more arguments than it was given, or wider ones");
    T value;
    std::memcpy(&value, data_ + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  void end() const {
    if (at_ != bytes_) throw Error("the kernel takes fewer arguments than it was given, or narrower ones");
  }

 private:
  const char* data_;
  std::size_t bytes_, at_ = 0;
};

template <class... A>
void run(const char* name, void (*kernel)(A...), const dim3& grid, const dim3& threads, std::size_t shared_bytes,
         Arguments arguments, const Schedule& schedule) {
  std::tuple<std::remove_cv_t<A>...> values{arguments.next<std::remove_cv_t<A>>()...};  // braces: in order
  arguments.end();
  launch(name, grid, threads, shared_bytes, schedule, [&] { std::apply(kernel, values); });
}

struct Launch {  // as tests/kernels/cuda/emulation.py fills it in
  dim3 grid, threads;
  unsigned shared_bytes;
  const char* arguments;
  std::size_t argument_bytes;
  Schedule schedule;
};

inline std::string message;  // of the last launch that failed

template <class Kernel>
const char* report(const char* name, Kernel kernel, const Launch& launch) {
  try {
    run(name, kernel, launch.grid, launch.threads, launch.shared_bytes,
        Arguments(launch.arguments, launch.argument_bytes), launch.schedule);
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

}  // namespace emulator

// EMULATE(nms_overlaps<64, true>): exports `emulate`, which returns null or what went wrong.
#define EMULATE(...)                                                                                      \
  extern "C" __attribute__((visibility("default"))) const char* emulate(const emulator::Launch& launch) { \
    return emulator::report(#__VA_ARGS__, &__VA_ARGS__, launch);                                          \
  }
